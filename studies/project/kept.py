"""The numbers of the kept studies, as the report and the slides quote them: looked up, never typed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gradiograph.core.records import Row
from gradiograph.report.statistics import Values, collect, summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RESULTS = Path(__file__).parents[1] / "results"
NONE, MISMATCHED = "none", "mismatched_update"


class NoSuchNumber(LookupError):
    """The studies hold no such number, or several."""


@dataclass(frozen=True)
class Study:
    """One folder of kept results, a subfolder of it included.

    >>> Study("frontier_search").told(attack="map(prior=#4b25df)", defence="sign_sgd*")
    '0 of 8'
    """

    name: str

    @property
    def folder(self) -> Path:
        """Where its tables lie."""
        return RESULTS / self.name

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every row of an attack or a control."""
        return tuple(_rows(self.folder / "rows.csv"))

    @cached_property
    def films(self) -> str:
        """How many films, batches and seeds it has, in words."""
        own = [row for row in self.rows if row.control == NONE]
        films, seeds = {row.record for row in own}, sorted({row.seed for row in own})
        return f"{len(films)} films, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"

    def values(self, metric: str, control: str = NONE, number: int | None = None, **patterns: str) -> Values:
        """One number for each film.

        Args:
            metric: Of the rows.
            control: Of the rows.
            number: The attacked round; None where there is one.
            **patterns: Glob patterns of `task`, `protocol`, `defence` and `attack`.

        Raises:
            NoSuchNumber: nothing fits, or rows of several settings do.
        """
        wanted = {"metric": metric, "control": control, **patterns}
        found = collect(
            row
            for row in self.rows
            if all(fnmatchcase(getattr(row, name), pattern) for name, pattern in wanted.items())
            and number in (None, row.round)
        )
        if len(found) != 1:
            msg = f"{self.name}: {wanted} fits {len(found)} settings: {sorted(found)[:4]}"
            raise NoSuchNumber(msg)
        return next(iter(found.values()))

    def told(self, metric: str = "identification_top1", **where: str) -> str:
        """How many films were told, of how many: '5 of 8'. Films that some seeds tell count in part."""
        values = self.values(metric, **where).values
        return f"{values.sum():.3g} of {len(values)}"

    def share(self, metric: str = "identification_top1", **where: str) -> str:
        """The share that was told, with its interval: '62 % (25 to 88 %)'."""
        found = summary(self.values(metric, **where)).interval
        return _share(found.mean, found.low, found.high)

    def mean(self, metric: str, digits: int = 3, *, interval: bool = True, **where: str) -> str:
        """The mean over films with its interval: '0.104 (0.067 to 0.147)'."""
        found = summary(self.values(metric, **where)).interval
        return _number(found.mean, found.low, found.high, digits, interval=interval)

    def utility(self, measure: str, digits: int = 3, *, interval: bool = True, **patterns: str) -> str:
        """A measure of a trained model on test patients: '0.992 (0.987 to 0.997)'."""
        wanted = {"measure": measure, "arm": "federated", "site": "all", **patterns}
        with (self.folder / "utility.csv").open(newline="") as sheet:
            found = [
                row
                for row in csv.DictReader(sheet)
                if all(fnmatchcase(row[name], pattern) for name, pattern in wanted.items())
            ]
        if len(found) != 1:
            msg = f"{self.name}: {wanted} fits {len(found)} models"
            raise NoSuchNumber(msg)
        value, low, high = (float(found[0][name]) for name in ("value", "low", "high"))
        return _number(value, low, high, digits, interval=interval)


@dataclass(frozen=True)
class Ladder:
    """The ladder of realism, as `realism_chart.py` kept it."""

    study: Study = Study("realism")

    @cached_property
    def table(self) -> Mapping[tuple[str, str, str], Mapping[str, str]]:
        """Its rows by rung, line and metric."""
        with (self.study.folder / "ladder.csv").open(newline="") as sheet:
            return {(row["rung"], row["line"], row["metric"]): row for row in csv.DictReader(sheet)}

    def row(self, rung: str, line: str, metric: str) -> Mapping[str, str]:
        """One row.

        Raises:
            NoSuchNumber: it is not there.
        """
        if (rung, line, metric) not in self.table:
            msg = f"realism: no {metric} of {line} on rung {rung}"
            raise NoSuchNumber(msg)
        return self.table[rung, line, metric]

    def share(self, rung: str, line: str, metric: str = "identification_top1") -> str:
        """A share with its interval: '62 % (25 to 88 %)'."""
        return _share(*self._interval(rung, line, metric))

    def mean(self, rung: str, line: str, metric: str, digits: int = 3) -> str:
        """A mean with its interval."""
        return _number(*self._interval(rung, line, metric), digits)

    def _interval(self, rung: str, line: str, metric: str) -> tuple[float, ...]:
        return tuple(float(self.row(rung, line, metric)[name]) for name in ("mean", "low", "high"))

    def size(self, rung: str) -> str:
        """Films, batches and seeds of a rung, in words."""
        row = self.row(rung, "ours", "lpips")
        return f"{row['films']} films in {row['batches']} batches, {row['seeds']} seeds"

    @property
    def rungs(self) -> list[str]:
        """The rungs that were measured, from the textbook's on."""
        return list(dict.fromkeys(rung for rung, line, _ in self.table if line == "ours"))


def _share(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"


def _number(mean: float, low: float, high: float, digits: int, *, interval: bool = True) -> str:
    return f"{mean:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if interval else "")


def _rows(path: Path) -> Iterator[Row]:
    with path.open(newline="") as sheet:
        for row in csv.DictReader(sheet):
            yield Row(
                task=row["task"],
                protocol=row["protocol"],
                defence=row["defence"],
                attack=row["attack"],
                control=row["control"],
                batch=int(row["batch"]),
                seed=int(row["seed"]),
                record=row["record"],
                metric=row["metric"],
                value=float(row["value"]),
                larger_leaks_more=row["larger_leaks_more"] == "true",
                round=int(row.get("round") or 1),
            )
