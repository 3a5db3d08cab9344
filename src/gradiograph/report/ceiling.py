"""The oracle control: what a better search of the same objective could still find, and what the update shows at all."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from gradiograph.report.diagnosis import Diagnosis, Ending, describe_spectrum, diagnose
from gradiograph.report.results import ATTACK, MEAN, MISMATCHED, ORACLE, SPECTRUM, STOCK, TRUTH, Results, Setting
from gradiograph.report.statistics import Key, Values, collect
from gradiograph.report.tables import Entry, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradiograph.core.records import Row
    from gradiograph.log import Cell

CEILING_MEANING = (
    "Made by an oracle that sees the film, so no attack: each search begun near the film, on some of the batches and "
    "seeds. It tells a search that failed from an update that says nothing. None of it counts in any other figure."
)


@dataclass(frozen=True, kw_only=True)
class CeilingLine:
    """One search begun somewhere: where it ended, and its objective at the start and at the end."""

    name: str
    entries: tuple[Entry | None, ...]
    start: str = ""
    end: str = ""


@dataclass(frozen=True, kw_only=True)
class CeilingBlock:
    """The ceiling of all attacks on one defence, on the batches and seeds that the ceiling covers."""

    defence: str
    sentences: tuple[str, ...]
    lines: tuple[CeilingLine, ...]


def ceilings(results: Results, setting: Setting, metrics: Sequence[str]) -> list[CeilingBlock]:
    """The ceiling in one setting, by defence; those without one are left out."""
    found = []
    for defence in results.defences(setting):
        place = _Place(results, setting, defence)
        attacks = results.attacks(setting, defence)
        lines = [line for attack in attacks for line in place.lines(attack, metrics)]
        spectrum = place.spectrum()
        told = [(attack, place.diagnosis(attack)) for attack in attacks]
        sentences = [spectrum] if spectrum else []
        sentences += [f"{attack}: {diagnosis.value}" for attack, diagnosis in told if diagnosis]
        lines += place.visible_line(metrics)
        if lines:
            found.append(CeilingBlock(defence=defence, sentences=tuple(sentences), lines=tuple(lines)))
    return found


def diagnosis(results: Results, setting: Setting, defence: str, attack: str) -> Diagnosis | None:
    """What the ceiling says of an attack; None where it has none, or none that is finished."""
    return _Place(results, setting, defence).diagnosis(attack)


class _Place:
    """All that the ceiling needs of one defence in one setting, on the batches and seeds that it covers."""

    def __init__(self, results: Results, setting: Setting, defence: str) -> None:
        place = (*setting, defence)
        covered = {(c.batch, c.seed) for c in results.oracle_cells if (c.task, c.protocol, c.defence) == place}

        def belongs(entry: Cell | Row) -> bool:
            own = (entry.task, entry.protocol, entry.defence) == place
            return own and (entry.batch, entry.seed) in covered

        self._place = place
        self._cells = [cell for cell in (*results.cells, *results.oracle_cells) if belongs(cell)]
        self._tables: Mapping[Key, Values] = collect(
            row for row in (*results.rows, *results.oracle_rows) if belongs(row)
        )
        self._references: Mapping[Key, Values] = collect(
            row for row in results.rows if row.control in (STOCK, MEAN) and (row.batch, row.seed) in covered
        )

    def lines(self, attack: str, metrics: Sequence[str]) -> list[CeilingLine]:
        """The attack itself, its searches begun near the film, and the film as the search can show it."""
        controls = self._blends(attack)
        if not controls:
            return []
        names = {ATTACK: attack}
        names |= {
            control: f"{attack}, begun at the film with {control.removeprefix(ORACLE)} % of another"
            for control in controls
        }
        names[TRUTH] = f"the film itself, as {attack} can show it"
        return [
            CeilingLine(
                name=name,
                entries=self._entries(attack, control, metrics),
                start=_mean(self._objectives(attack, control, first=True)) if control in controls else "",
                end=_mean(self._objectives(attack, control)),
            )
            for control, name in names.items()
        ]

    def visible_line(self, metrics: Sequence[str]) -> list[CeilingLine]:
        """The part of the films that the update shows, as a picture."""
        entries = self._entries("", SPECTRUM, metrics)
        name = "the mean film with the visible directions of the film"
        return [CeilingLine(name=name, entries=entries)] if any(entries) else []

    def spectrum(self) -> str:
        """The sentence on the spectrum; empty where none was measured."""
        names = ("visible_directions", "probed_directions", "condition_log10")
        found = [self._values("", SPECTRUM, name) for name in names]
        if any(values is None for values in found):
            return ""
        visible, probed, condition = ([float(v) for v in values.values] for values in found if values is not None)
        flags = {flag for cell in self._cells if cell.control == SPECTRUM for flag in cell.flags}
        return describe_spectrum(visible, round(probed[0]), median(condition), is_linear="nonlinear" not in flags)

    def diagnosis(self, attack: str) -> Diagnosis | None:
        """See `diagnosis`; of the search that began nearest."""
        controls = self._blends(attack)
        if not controls:
            return None
        endings = [self._ending(attack, control) for control in (ATTACK, controls[0])]
        control = self._control(attack)
        own = [cell.objective for cell in self._of(attack, ATTACK) if cell.objective]
        if endings[0] is None or endings[1] is None or control is None:
            return None
        truth = self._objectives(attack, TRUTH)
        return diagnose(
            attack=endings[0],
            ceiling=endings[1],
            at_film=fmean(truth) if truth else None,
            control=control,
            gained=fmean(objective[0] - min(objective) for objective in own),
        )

    def _control(self, attack: str) -> float | None:
        """The smallest error without this patient's update; None where the mismatched control has not run."""
        mismatched = self._error(attack, MISMATCHED)
        if mismatched is None:
            return None
        metric = next(name for name in _ERRORS if self._values(attack, MISMATCHED, name) is not None)
        pictures = [values for key, values in self._references.items() if key.metric == metric]
        return min([mismatched, *(_mean_error(values) for values in pictures)])

    def _blends(self, attack: str) -> list[str]:
        """The controls that began with some of another film, the least first."""
        found = {cell.control for cell in self._cells if cell.attack == attack and _percent(cell.control) is not None}
        return sorted(found, key=lambda control: _percent(control) or 0)

    def _of(self, attack: str, control: str) -> list[Cell]:
        return [cell for cell in self._cells if (cell.attack, cell.control) == (attack, control)]

    def _objectives(self, attack: str, control: str, *, first: bool = False) -> list[float]:
        """The objective of each cell: the first one, or the smallest."""
        found = [cell.objective for cell in self._of(attack, control) if cell.objective]
        return [objective[0] if first else min(objective) for objective in found]

    def _values(self, attack: str, control: str, metric: str) -> Values | None:
        return self._tables.get(Key(*self._place, attack, control, metric))

    def _entries(self, attack: str, control: str, metrics: Sequence[str]) -> tuple[Entry | None, ...]:
        pairs = [[self._values(attack, kind, metric) for kind in (control, MISMATCHED)] for metric in metrics]
        return tuple(entry_of(values, beside) if values else None for values, beside in pairs)

    def _ending(self, attack: str, control: str) -> Ending | None:
        objectives, error = self._objectives(attack, control), self._error(attack, control)
        return Ending(objective=fmean(objectives), error=error) if objectives and error is not None else None

    def _error(self, attack: str, control: str) -> float | None:
        """The mean error by the first of the metrics that was measured."""
        for metric in _ERRORS:
            values = self._values(attack, control, metric)
            if values is not None:
                return _mean_error(values)
        return None


_ERRORS: Mapping[str, Callable[[float], float]] = {
    "mse": lambda value: value,
    "variance_explained": lambda value: 1 - value,
    "psnr": lambda value: 10 ** (-value / 10),
    "lpips": lambda value: value,
    "ssim": lambda value: 1 - value,
    "ms_ssim": lambda value: 1 - value,
}
"""From a metric to an error that is 0 for the film itself; the first that was measured counts."""


def _mean_error(values: Values) -> float:
    to_error = _ERRORS[values.metric]
    return fmean(to_error(float(value)) for value in values.values)


def _percent(control: str) -> int | None:
    """The share of another film in the start, in percent; None for other controls."""
    share = control.removeprefix(ORACLE)
    return int(share) if control.startswith(ORACLE) and share.isdecimal() else None


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.4g}" if values else "unknown"
