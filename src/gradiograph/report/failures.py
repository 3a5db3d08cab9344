"""What was to be measured and has no result, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradiograph.report.results import ATTACK, MISMATCHED, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.log import Cell
    from gradiograph.report.results import Results, Setting

_CONTROLS = {ATTACK: "", MISMATCHED: "the mismatched control of "}


class NotMeasured(NamedTuple):
    """Something without a result, and why."""

    what: str
    why: str


def not_measured(results: Results) -> list[NotMeasured]:
    """The header's own entries, then the cells that failed: one entry for an attack, a protection and a reason."""
    found = [NotMeasured(entry["what"], entry["why"]) for entry in results.header["not_measured"]]
    grouped: dict[tuple[str, ...], list[Cell]] = {}
    for cell in results.failed:
        place = (cell.task, cell.protocol, cell.defence, cell.attack, cell.control, cell.failed)
        grouped.setdefault(place, []).append(cell)
    return found + [NotMeasured(_title(cells), cells[0].failed) for cells in grouped.values()]


def failed_runs(results: Results, setting: Setting, defence: str, attack: str | None = None) -> tuple[int, int]:
    """How many runs of the attacks on a defence have no result, and how many there are of them in all.

    Args:
        results: The log, read.
        setting: Task and protocol.
        defence: Its label.
        attack: Of this attack only; None is all.
    """

    def runs(cells: Sequence[Cell]) -> int:
        place = (*setting, defence, ATTACK)
        own = [c for c in cells if (c.task, c.protocol, c.defence, c.control) == place]
        return sum(attack in (None, cell.attack) for cell in own)

    failed = runs(results.failed)
    return failed, failed + runs(results.cells)


def _title(cells: Sequence[Cell]) -> str:
    first = cells[0]
    batches, seeds = (", ".join(map(str, sorted({getattr(c, part) for c in cells}))) for part in ("batch", "seed"))
    what = _CONTROLS.get(first.control, f"{first.control} of ") + (first.attack or "the update")
    under = named(first.defence)
    where = f" on {first.task} under {under}" if first.defence else ""
    return f"{what[0].upper()}{what[1:]}{where} (batches {batches}; seeds {seeds})"
