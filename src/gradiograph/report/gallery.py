"""Originals beside reconstructions, the films that leaked most first."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gradiograph.log.pictures import ORIGINAL, mark_of, png
from gradiograph.report.findings import findings
from gradiograph.report.results import ATTACK, MEAN, MISMATCHED, STOCK, Place, Results, Setting
from gradiograph.report.statistics import Film, Key, by_leakage
from gradiograph.report.wording import measure, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from gradiograph.log import Cell, Log

_FILMS = 4
_FILMS_OF_OTHERS = 2
_BUDGET = 200
_PICTURES_PER_FILM = 5
_CAPTION = ("identification_rank", "lpips", "ssim", "psnr", "variance_explained")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with what it shows and its own numbers."""

    title: str
    source: str = field(repr=False)
    alternative: str
    numbers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FilmStrip:
    """One film: the original, the reconstruction, the controls."""

    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """The strips of one attack on one defence, and how many films there are in all."""

    setting: Setting
    defence: str
    attack: str
    strips: tuple[FilmStrip, ...]
    films: int


@dataclass(frozen=True, kw_only=True)
class Hall:
    """One defence: its strongest attack, and the others."""

    defence: str
    strongest: Exhibit
    others: tuple[Exhibit, ...]


class Gallery:
    """Chooses and encodes the pictures of a report.

    Args:
        log: Where the pictures lie.
        results: The same log, read.
    """

    def __init__(self, log: Log, results: Results) -> None:
        self._log = log
        self._results = results
        self._shows_originals = bool(results.header["spec"].get("show_originals"))
        self._numbers: dict[tuple[Place, str], dict[str, float]] = {}
        for row in results.rows:
            self._numbers.setdefault((Place.of(row), row.record), {})[row.metric] = row.value
        halls = sum(len(results.defences(setting)) for setting in results.settings)
        self._films = max(1, min(_FILMS, _BUDGET // (_PICTURES_PER_FILM * max(1, halls))))

    def halls(self, setting: Setting) -> list[Hall]:
        """One hall per defence, undefended first; those without pictures are left out."""
        found = []
        for defence in self._results.defences(setting):
            attacks = [finding.attack for finding in findings(self._results, setting, defence)]
            counts = [self._films, *[min(self._films, _FILMS_OF_OTHERS)] * len(attacks)]
            exhibits = [self._exhibit(setting, defence, *chosen) for chosen in zip(attacks, counts, strict=False)]
            shown = [exhibit for exhibit in exhibits if exhibit.strips]
            if shown:
                found.append(Hall(defence=defence, strongest=shown[0], others=tuple(shown[1:])))
        return found

    def _exhibit(self, setting: Setting, defence: str, attack: str, count: int) -> Exhibit:
        key = Key(*setting, defence, attack, ATTACK, "")
        films = by_leakage(self._results.tables, key)
        strips = (self._strip(key, film, rank, len(films)) for rank, film in _chosen(films, count))
        return Exhibit(
            setting=setting,
            defence=defence,
            attack=attack,
            strips=tuple(strip for strip in strips if strip is not None),
            films=len(films),
        )

    def _strip(self, key: Key, film: Film, rank: int, films: int) -> FilmStrip | None:
        cell = self._worst_seed(key, film)
        if cell is None or not self._log.has_victims(film.batch):
            return None
        victims = self._log.victims(film.batch)
        place = victims.records.index(film.record)
        label = victims.labels[place]
        originals = []
        if self._shows_originals:
            text = f"The attacked film, class {label}."
            originals = [_picture("Original", victims.images[place], text, {}, ORIGINAL)]
        beside = partial(self._results.beside, cell)
        others = [
            (cell, "Reconstruction", f"What the attack {key.attack} read out of the update."),
            (beside(MISMATCHED), "Control: other patient", "The same attack, another patient's update."),
            (beside(STOCK), "Control: stock film", "A public film of the same class."),
            (beside(MEAN), "Control: mean film", "The mean of the attacker's public films."),
        ]
        pictures = [self._shown(other, film, place, title, text) for other, title, text in others if other]
        return FilmStrip(
            caption=f"{_ordinal(rank, films)}: film {film.record}, {label}, seed {cell.seed}",
            pictures=(*originals, *(picture for picture in pictures if picture)),
        )

    def _shown(self, cell: Cell, film: Film, place: int, title: str, text: str) -> Picture | None:
        images = self._log.images(cell.id)
        if images is None or place >= len(images):
            return None
        numbers = self._numbers.get((Place.of(cell), film.record), {})
        return _picture(title, images[place], text, numbers, mark_of(cell.control))

    def _worst_seed(self, key: Key, film: Film) -> Cell | None:
        """The cell of the seed at which this film leaked most: the lowest rank, then the largest PSNR."""
        place = (*key[:5], film.batch)
        cells = [cell for where, cell in self._results.by_place.items() if where[:6] == place]

        def leak(cell: Cell) -> tuple[float, float, int]:
            own = self._numbers.get((Place.of(cell), film.record), {})
            return (own.get("identification_rank", 0.0), -own.get("psnr", 0.0), cell.seed)

        return min(cells, key=leak, default=None)


def _chosen(films: list[Film], count: int) -> list[tuple[int, Film]]:
    """The worst films and, last, the median one, each with its rank from 0."""
    if len(films) <= count or count == 1:
        ranks = list(range(min(count, len(films))))
    else:
        ranks = sorted({*range(count - 1), max(count - 1, len(films) // 2)})
    return [(rank, films[rank]) for rank in ranks]


def _ordinal(rank: int, films: int) -> str:
    if rank == 0:
        return "Leaked most"
    return f"Rank {rank + 1} of {films}" + (", the median" if rank == films // 2 and films > _FILMS else "")


def _picture(title: str, image: NDArray[np.float32], text: str, numbers: Mapping[str, float], mark: str) -> Picture:
    shown = [f"{measure(name).title} {number(name, numbers[name])}" for name in _CAPTION if name in numbers]
    return Picture(
        title=title,
        source="data:image/png;base64," + base64.b64encode(png(image, mark)).decode(),
        alternative=f"{title}. {text}" + (f" {', '.join(shown)}." if shown else ""),
        numbers=tuple(shown),
    )
