"""Keep the ladder of realism: python studies/realism_chart.py RUNS FOLDER.

Writes FOLDER/NAME.csv for each rung, a line for each film that an attack or a control showed; FOLDER/ladder.csv, their
means with 95 % intervals and the utility; and FOLDER/ladder.svg. Of the published attacks, and of ours, the chart shows
the one that identifies most beyond its mismatched control, by LPIPS, then by pixels, then by its LPIPS.
"""

from __future__ import annotations

import csv
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from gradiograph.log import Log
from gradiograph.report import Results, write_tables
from gradiograph.report.plots import COLOURS, STYLE
from gradiograph.report.statistics import Key, Values, collect, difference, summary
from realism import RUNGS, Rung

METRICS = ("identification_top1", "identification_pixels_top1", "lpips", "psnr", "variance_explained")
PUBLISHED, OURS = ("dlg", "inverting_gradients", "rog"), ("unmixing", "map")
NEAR_TRUTH = "ceiling_10"
FIELDS = ("rung", "line", "attack", "metric", "mean", "low", "high", "films", "batches", "seeds")
FILM = ("attack", "control", "batch", "seed", "record")


@dataclass(frozen=True)
class Line:
    """One of the chart's four lines on one rung: whose numbers they are."""

    name: str
    attack: str
    tables: Mapping[str, Values]


def lines_of(tables: Mapping[Key, Values]) -> list[Line]:
    """Published, ours, the mismatched control of ours, and the ceiling: our search begun near the truth."""
    attacks = sorted({key.attack for key in tables if key.attack})
    published, ours = (strongest(tables, family, attacks) for family in (PUBLISHED, OURS))
    found = [
        Line("published", published, of(tables, published, "none")),
        Line("ours", ours, of(tables, ours, "none")),
        Line("control", ours, of(tables, ours, "mismatched_update")),
    ]
    (search,) = (attack for attack in attacks if attack.startswith("map("))
    near = of(tables, search, NEAR_TRUTH)
    return [*found, Line("ceiling", search, near)] if near else found


def strongest(tables: Mapping[Key, Values], family: Iterable[str], attacks: Iterable[str]) -> str:
    """The attack of a family that finds most beyond its control."""

    def beyond(attack: str) -> tuple[float, ...]:
        own, control = rank(of(tables, attack, "none")), rank(of(tables, attack, "mismatched_update"))
        return own[0] - control[0], own[1] - control[1], own[2]

    return max((attack for attack in attacks if attack.partition("(")[0] in family), key=beyond)


def of(tables: Mapping[Key, Values], attack: str, control: str) -> dict[str, Values]:
    """The metrics of an attack or of one of its controls."""
    return {key.metric: values for key, values in tables.items() if (key.attack, key.control) == (attack, control)}


def rank(values: Mapping[str, Values]) -> tuple[float, float, float]:
    """What orders attacks: identification by LPIPS, by pixels, and a small LPIPS."""
    means = {metric: float(found.values.mean()) for metric, found in values.items()}
    return means["identification_top1"], means["identification_pixels_top1"], -means["lpips"]


def rows_of(rung: Rung, tables: Mapping[Key, Values]) -> list[dict[str, Any]]:
    """The lines' means with their intervals, and what ours finds beyond its control."""
    rows = []
    lines = {line.name: line for line in lines_of(tables)}
    for line in lines.values():
        for metric in METRICS:
            told = summary(line.tables[metric])
            numbers = (told.interval.mean, told.interval.low, told.interval.high, told.films, told.batches, told.seeds)
            rows.append(dict(zip(FIELDS, (rung.name, line.name, line.attack, metric, *numbers), strict=True)))
    for metric in METRICS:
        own, control = (lines[name].tables[metric] for name in ("ours", "control"))
        beyond = difference(own, control)
        if beyond is not None:
            numbers = (beyond.interval.mean, beyond.interval.low, beyond.interval.high, beyond.films, "", own.seeds)
            entry = (rung.name, "ours beyond control", lines["ours"].attack, metric, *numbers)
            rows.append(dict(zip(FIELDS, entry, strict=True)))
    return rows


def utility_of(rung: Rung, run: Path) -> list[dict[str, Any]]:
    """The score of the federation's last model on other patients."""
    rows = []
    for table in write_tables(run):
        with table.open(newline="") as sheet:
            for row in csv.DictReader(sheet) if table.name == "utility.csv" else ():
                if (row["arm"], row["site"], row["measure"]) == ("federated", "all", "auroc"):
                    numbers = (row["value"], row["low"], row["high"], "", "", "")
                    rows.append(dict(zip(FIELDS, (rung.name, "utility", "", "auroc", *numbers), strict=True)))
    return rows


def films_of(rows: Iterable[Any], path: Path) -> None:
    """A line for each film, attack, control and seed, with its metrics."""
    table: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        if row.metric in METRICS:
            table.setdefault(tuple(getattr(row, field) for field in FILM), {})[row.metric] = row.value
    with path.open("w", newline="") as sheet:
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow((*FILM, *METRICS))
        for place in sorted(table):
            writer.writerow((*place, *(f"{table[place][metric]:.4g}" for metric in METRICS)))


def main(runs: Path, folder: Path) -> None:
    """Keep every rung that has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for rung in RUNGS:
        run = runs / rung.name
        if not (run / "audit.json").exists() or Log.open(run).header["status"] != "complete":
            continue
        results = Results.read(Log.open(run))
        every = (*results.rows, *results.oracle_rows)
        films_of(every, folder / f"{rung.name}.csv")
        rows += rows_of(rung, collect(every))
        rows += utility_of(rung, run)
    with (folder / "ladder.csv").open("w", newline="") as sheet:
        writer = csv.DictWriter(sheet, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, folder / "ladder.svg")


STYLES = {
    "published": ("published attacks (DLG, inverting gradients, ROG)", COLOURS[1], "-", "s"),
    "ours": ("channel-aware, with medical priors", COLOURS[0], "-", "o"),
    "control": ("the same on another client's update", "#8a94a3", ":", "o"),
    "ceiling": ("map begun near the truth (oracle)", COLOURS[2], "--", "^"),
}


def draw(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Three panels over the rungs: identification, LPIPS, and the utility of what was trained."""
    found = {(row["rung"], row["line"], row["metric"]): row for row in rows}
    rungs = [rung for rung in RUNGS if (rung.name, "ours", "lpips") in found]
    with mpl.rc_context(STYLE):
        figure, (top, middle, bottom) = plt.subplots(
            3, 1, figsize=(11, 8), sharex=True, layout="constrained", height_ratios=(3, 2, 1.4)
        )
        for axes, metric in ((top, "identification_top1"), (middle, "lpips")):
            for number, (line, (label, colour, style, marker)) in enumerate(STYLES.items()):
                _line(axes, rungs, found, line, metric, (number - 1.5) * 0.08, label, colour, style, marker)
        _line(top, rungs, found, "ours", "identification_pixels_top1", 0.2, "ours, by pixels", COLOURS[4], "-", ".")
        _line(bottom, rungs, found, "utility", "auroc", 0.0, "", COLOURS[6], "", "D")
        top.set(ylabel="films identified", ylim=(-0.03, 1.03))
        middle.set(ylabel="LPIPS, smaller is nearer")
        bottom.set(ylabel="AUROC of the model")
        figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        titles = [textwrap.fill(rung.title, 13) for rung in rungs]
        bottom.set_xticks(range(len(rungs)), titles, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _line(
    axes: Any,  # noqa: ANN401 - matplotlib's
    rungs: list[Rung],
    found: Mapping[tuple[str, str, str], Mapping[str, Any]],
    line: str,
    metric: str,
    shift: float,
    label: str,
    colour: str,
    style: str,
    marker: str,
) -> None:
    points = [(place + shift, found.get((rung.name, line, metric))) for place, rung in enumerate(rungs)]
    there = [(x, *(float(row[name]) for name in ("mean", "low", "high"))) for x, row in points if row]
    if not there:
        return
    x, mean, low, high = zip(*there, strict=True)
    errors = [[m - a for m, a in zip(mean, low, strict=True)], [b - m for m, b in zip(mean, high, strict=True)]]
    axes.errorbar(x, mean, yerr=errors, linestyle=style, marker=marker, color=colour, label=label, capsize=2, lw=1.3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
