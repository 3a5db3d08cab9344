"""What the viewer shows: one entry for each attacked film, and its pictures by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiograph.core.errors import LogProblem
from gradiograph.log.pictures import ORIGINAL, mark_of, png
from gradiograph.report.results import ATTACK, MISMATCHED, STOCK, Place, Results
from gradiograph.report.wording import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradiograph.log import Cell, Log

KINDS = ("reconstruction", "original", "difference", "control", "stock")
"""The pictures of a film; the original and what shows it are there where the audit file allows them."""
_SHOWS_ORIGINAL = ("original", "difference")
_CONTROLS = {"control": MISMATCHED, "stock": STOCK}


@dataclass(frozen=True, kw_only=True)
class Exhibits:
    """The films of a run that can be looked at.

    Attributes:
        entries: What the page lists, ready for JSON.
        metrics: How each metric is shown, and which direction leaks.
        originals: Whether originals may be shown.
    """

    entries: tuple[dict[str, Any], ...]
    metrics: dict[str, dict[str, Any]]
    originals: bool


def exhibits(results: Results) -> Exhibits:
    """Every film of every attack that is no control."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for row in results.rows:
        cell = results.by_place.get(Place.of(row))
        if row.control != ATTACK or cell is None:
            continue
        scores.setdefault((cell.id, row.record), {})[row.metric] = row.value
        shown = measure(row.metric)
        metrics[row.metric] = {
            "title": shown.title, "factor": shown.factor, "unit": shown.unit, "larger": row.larger_leaks_more
        }  # fmt: skip
    named = {cell.id: _named(cell) for cell in results.cells}
    entries = tuple(
        {**named[cell_id], "cell": cell_id, "record": record, "scores": values}
        for (cell_id, record), values in scores.items()
    )
    return Exhibits(entries=entries, metrics=metrics, originals=bool(results.header["spec"].get("show_originals")))


def picture(log: Log, results: Results, cell_id: str, record: str, kind: str) -> bytes | None:
    """A marked PNG of a film; None where there is none or it may not be shown.

    Args:
        log: The run.
        results: The same, read.
        cell_id: The attack's cell.
        record: The film's pseudonym.
        kind: One of `KINDS`.
    """
    cell = next((cell for cell in results.cells if cell.id == cell_id), None)
    allowed = results.header["spec"].get("show_originals") or kind not in _SHOWS_ORIGINAL
    if cell is None or kind not in KINDS or not allowed:
        return None
    try:
        victims = log.victims(cell.batch)
        number = victims.records.index(record)
        shown = _image(log, results, cell, number, kind, victims.images[number])
    except (LogProblem, ValueError, IndexError):
        return None
    return (
        None if shown is None else png(shown, ORIGINAL if kind == "original" else mark_of(_CONTROLS.get(kind, ATTACK)))
    )


def _image(
    log: Log, results: Results, cell: Cell, number: int, kind: str, original: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    if kind == "original":
        return original
    other = _CONTROLS.get(kind)
    source = cell if other is None else results.beside(cell, other)
    images = None if source is None else log.images(source.id)
    if images is None:
        return None
    found: NDArray[np.float32] = images[number]
    return np.abs(found - original) if kind == "difference" else found


def _named(cell: Cell) -> dict[str, Any]:
    names = ("task", "protocol", "defence", "attack", "batch", "seed")
    return {name: getattr(cell, name) for name in names}
