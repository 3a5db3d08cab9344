"""A log, read once and arranged for the report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradiograph.core.errors import LogProblem
from gradiograph.report.statistics import Key, Values, collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gradiograph.core.records import Row
    from gradiograph.log import Cell, Log, Trainings

ATTACK, MISMATCHED, STOCK, MEAN = "none", "mismatched_update", "stock_film", "mean_film"
ORACLE = "ceiling_"
"""How the controls begin that see the truth; none of them is in a figure of the attack."""
TRUTH, SPECTRUM = f"{ORACLE}truth", f"{ORACLE}spectrum"
MEMBERS, STRANGERS = "membership", "membership_mismatched_update"
"""The cells that ask of films whether they took part: in their own round, and in one that they took no part in."""
UNDEFENDED = "none"


def named(defence: str, *, start: bool = False) -> str:
    """What a protection is called in a text; at the start of a sentence or a line with a capital.

    >>> named("none"), named("none", start=True), named("sign_sgd")
    ('no protection', 'No protection', 'sign_sgd')
    """
    if defence != UNDEFENDED:
        return defence
    return "No protection" if start else "no protection"


_NO_HEADER: Mapping[str, Any] = {
    "status": "", "error": None, "name": "", "purpose": "", "authorised_by": "", "command": "", "created": "",
    "spec": {}, "defaults": [], "environment": {}, "data": {}, "threat": {}, "tasks": [], "protocols": [],
    "defences": [], "attacks": [], "metrics": [], "not_measured": [], "cells_total": 0, "trainings_total": 0,
    "utility": None, "privacy": [], "yardsticks": [],
}  # fmt: skip


Entry = TypeVar("Entry", "Cell", "Row")


class Setting(NamedTuple):
    """What is trained and how: the labels of a task and a protocol. A task at a later round is one of its own."""

    task: str
    protocol: str


class Place(NamedTuple):
    """What a cell and its rows are of, but for the film and the metric."""

    task: str
    protocol: str
    defence: str
    attack: str
    control: str
    batch: int
    seed: int

    @classmethod
    def of(cls, entry: Cell | Row) -> Place:
        """Of a cell or a row: they name it alike."""
        return cls(*(getattr(entry, name) for name in cls._fields))


@dataclass(frozen=True, kw_only=True)
class Results:
    """What an audit found.

    Attributes:
        header: The log's header; entries that it lacks are empty.
        cells: All cells that have a result but the oracle's, sorted.
        rows: All rows but the oracle's, sorted.
        tables: These rows by what they are about.
        oracle_cells: The cells of the controls that see the truth, sorted: the ceiling.
        oracle_rows: Their rows, sorted.
        asked_cells: The cells that ask for members; they show no picture.
        asked: Their rows by what they are about.
        rounds: The attacked rounds of the training, from 1.
        failed: The cells without a result, sorted.
        trainings: What was trained; None in results that were not read from a log.
    """

    header: Mapping[str, Any]
    cells: tuple[Cell, ...] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)
    tables: Mapping[Key, Values] = field(repr=False)
    oracle_cells: tuple[Cell, ...] = field(repr=False, default=())
    oracle_rows: tuple[Row, ...] = field(repr=False, default=())
    asked_cells: tuple[Cell, ...] = field(repr=False, default=())
    asked: Mapping[Key, Values] = field(repr=False, default_factory=dict)
    rounds: tuple[int, ...] = (1,)
    failed: tuple[Cell, ...] = field(repr=False, default=())
    trainings: Trainings | None = field(repr=False, default=None)

    @classmethod
    def read(cls, log: Log) -> Results:
        """Read a log.

        Raises:
            LogProblem: nothing was scored yet.
        """
        header, all_cells, all_rows = {**_NO_HEADER, **log.header}, log.cells(), log.rows()
        at_rounds = tuple(map(_at_its_round, all_cells))
        cells, oracle_cells, asked_cells = _parted(cell for cell in at_rounds if not cell.failed)
        rows, oracle_rows, asked_rows = _parted(map(_at_its_round, all_rows))
        if not rows:
            msg = (
                f"The run has no results to report: {len(all_cells)} of {header['cells_total']} cells are done and "
                "none has a score. Continue it with `gradiograph run FILE --out DIR --resume`."
            )
            raise LogProblem(msg)
        return cls(
            header=header,
            cells=cells,
            rows=rows,
            tables=collect(rows),
            oracle_cells=oracle_cells,
            oracle_rows=oracle_rows,
            asked_cells=asked_cells,
            asked=collect(asked_rows),
            rounds=tuple(sorted({row.round for row in rows})),
            failed=tuple(cell for cell in at_rounds if cell.failed),
            trainings=log.trainings,
        )

    @property
    def done(self) -> int:
        """The number of cells that are there, of all kinds, with those that failed."""
        return sum(map(len, (self.cells, self.oracle_cells, self.asked_cells, self.failed)))

    @property
    def complete(self) -> bool:
        """Whether every cell of the grid is there."""
        return self.header["status"] == "complete" and self.done >= int(self.header["cells_total"])

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The attacked pairs of task and protocol, in the audit file's order."""
        pairs = {Setting(key.task, key.protocol) for key in self.tables if key.attack}
        tasks, protocols = (self.entries(name) for name in ("tasks", "protocols"))
        return tuple(sorted(pairs, key=lambda pair: (_rank(pair.task, tasks), _rank(pair.protocol, protocols))))

    def defences(self, setting: Setting) -> tuple[str, ...]:
        """The defences attacked in a setting: undefended first, then in the audit file's order."""
        found = {key.defence for key in self.tables if key.attack and (key.task, key.protocol) == setting}
        return self.in_order(found)

    def in_order(self, defences: Iterable[str]) -> tuple[str, ...]:
        """These defences: undefended first, then in the audit file's order."""
        known = (UNDEFENDED, *self.entries("defences"))
        return tuple(sorted(defences, key=lambda label: _rank(label, known)))

    def attacks(self, setting: Setting, defence: str) -> tuple[str, ...]:
        """The attacks that ran against a defence, in the audit file's order."""
        place = (*setting, defence)
        found = {key.attack for key in self.tables if key.attack and key[:3] == place and key.control == ATTACK}
        return tuple(sorted(found, key=lambda label: _rank(label, tuple(self.entries("attacks")))))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics with values, in the header's order; those that were added later follow."""
        known = tuple(entry["name"] for entry in self.header["metrics"])
        return tuple(sorted({key.metric for key in self.tables}, key=lambda name: _rank(name, known)))

    @cached_property
    def by_place(self) -> Mapping[Place, Cell]:
        """The cells."""
        return {Place.of(cell): cell for cell in self.cells}

    def beside(self, cell: Cell, control: str) -> Cell | None:
        """The control of an attack's cell: of the same attack, or what needs no update; None without one."""
        own = Place.of(cell)._replace(control=control)
        alone = own._replace(defence="", attack="")
        places = (own, alone, alone._replace(task="", protocol=""))
        return next((self.by_place[place] for place in places if place in self.by_place), None)

    def reference(self, setting: Setting, control: str, metric: str) -> Values | None:
        """The values of the stock film or the mean film: they need no update, so no setting of their own."""
        for task, protocol in (setting, ("", "")):
            values = self.tables.get(Key(task, protocol, "", "", control, metric))
            if values is not None:
                return values
        return None

    def flags(self, setting: Setting, defence: str, attack: str) -> tuple[str, ...]:
        """What an attack said about its own runs."""
        place = (*setting, defence, attack, ATTACK)
        cells = (c for c in self.cells if (c.task, c.protocol, c.defence, c.attack, c.control) == place)
        return tuple(sorted({flag for cell in cells for flag in cell.flags}))

    def entries(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """The header's entries of a kind, such as "defences", by label."""
        return {entry["label"]: entry for entry in self.header[kind]}


def task_at(task: str, number: int) -> str:
    """The label of a task whose update was attacked in this round of its training."""
    return task if number == 1 else f"{task}, round {number}"


def _at_its_round(entry: Entry) -> Entry:
    return replace(entry, task=task_at(entry.task, entry.round)) if entry.round > 1 else entry


def _parted(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[Entry, ...], tuple[Entry, ...]]:
    """What is a result, what only the oracle could know, and what was asked of films."""
    parts: tuple[list[Entry], list[Entry], list[Entry]] = [], [], []
    for entry in entries:
        kind = 2 if entry.control in (MEMBERS, STRANGERS) else int(entry.control.startswith(ORACLE))
        parts[kind].append(entry)
    return tuple(parts[0]), tuple(parts[1]), tuple(parts[2])


def _rank(label: str, known: Iterable[str]) -> tuple[int, str]:
    order = list(known)
    return (order.index(label) if label in order else len(order), label)
