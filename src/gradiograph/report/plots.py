"""Figures as SVG text that goes into the page: leakage per defence with its controls, and objectives."""

from __future__ import annotations

import io
import re
import textwrap
from itertools import count
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gradiograph.report.results import ATTACK, MISMATCHED, STOCK, Results, Setting, named
from gradiograph.report.statistics import Key, summary
from gradiograph.report.wording import measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from gradiograph.log import Cell
    from gradiograph.utility import Estimate

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_INK, MUTED = "#1b2430", "#8a94a3"
STYLE: Any = {  # matplotlib types its keys as one long literal
    "svg.hashsalt": "gradiograph",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": "#c9d0d8",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.parse_math": False,
}
_POINTS = 200
_LABEL, _LEGEND = 30, 56
_SCORES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
_NEARLY_ONE = 0.9995
_PANELS = ("identification_top1", "variance_explained", "lpips")


def leakage(results: Results, setting: Setting, number: int) -> str | None:
    """Mean leakage of every attack on every defence, with 95 % intervals, beside the mismatched control.

    Args:
        results: The log, read.
        setting: Task and protocol.
        number: Tells this figure's element ids from those of the page's other figures.

    Returns:
        SVG text; None where there is nothing to show.
    """
    metrics = [name for name in _PANELS if name in results.metrics] or list(results.metrics[:1])
    defences = results.defences(setting)
    attacks = list(dict.fromkeys(a for d in defences for a in results.attacks(setting, d)))
    with mpl.rc_context(STYLE):
        height = 1.3 + len(defences) * max(0.42, 0.22 * len(attacks))
        figure = Figure(figsize=(9.6, height), layout="constrained")
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _leakage_panel(axis, results, setting, metric, defences, attacks)
        axes[0].set_yticks(range(len(defences)), [short(named(label), _LABEL) for label in defences])
        axes[0].invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
        return svg(figure, f"leakage{number}")


def objectives(results: Results, setting: Setting, number: int) -> str | None:
    """The objective of every attack over its steps, relative to its start, one line per defence (median of its runs).

    Args:
        results: The log, read.
        setting: Task and protocol.
        number: Tells this figure's element ids from those of the page's other figures.

    Returns:
        SVG text; None where no attack has an objective.
    """
    cells = [c for c in results.cells if (c.task, c.protocol, c.control) == (*setting, ATTACK) and len(c.objective) > 1]
    defences = results.defences(setting)
    attacks = list(dict.fromkeys(a for d in defences for a in results.attacks(setting, d)))
    attacks = [attack for attack in attacks if any(cell.attack == attack for cell in cells)]
    if not attacks:
        return None
    columns = min(3, len(attacks))
    rows = -(-len(attacks) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.6 + 2.5 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axis, attack in zip(grid, attacks, strict=False):
            _objective_panel(axis, [cell for cell in cells if cell.attack == attack], defences)
            axis.set_title(short(attack, _LABEL), fontsize=9.5, loc="left")
        for axis in list(grid):
            axis.set_visible(False)
        pairs = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in figure.axes)
        handles = {label: handle for pair in pairs for handle, label in pair}
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=2, frameon=False, fontsize=8.5
        )
        return svg(figure, f"objectives{number}")


def _leakage_panel(
    axis: Axes, results: Results, setting: Setting, metric: str, defences: Sequence[str], attacks: Sequence[str]
) -> None:
    shown = measure(metric)
    step = 0.62 / max(1, len(attacks))
    for place, attack in enumerate(attacks):
        colour = COLOURS[place % len(COLOURS)]
        offset = (place - (len(attacks) - 1) / 2) * step
        for control, face, name in ((ATTACK, colour, attack), (MISMATCHED, "white", f"{attack}, control")):
            found = [
                (row + offset + (step / 3 if control == MISMATCHED else 0), summary(values).interval)
                for row, defence in enumerate(defences)
                if (values := results.tables.get(Key(*setting, defence, attack, control, metric))) is not None
            ]
            if not found:
                continue
            heights = [height for height, _ in found]
            low, mean, high = (
                shown.factor * np.array([getattr(interval, part) for _, interval in found])
                for part in ("low", "mean", "high")
            )
            axis.hlines(heights, low, high, color=colour, linewidth=1.6 if control == ATTACK else 0.8)
            axis.plot(mean, heights, "o", ms=5, mfc=face, mec=colour, linestyle="none", label=short(name, _LEGEND))
    stock = results.reference(setting, STOCK, metric)
    if stock is not None and metric == "lpips":
        axis.axvline(float(stock.values.mean()), color=MUTED, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
        axis.annotate("stock film", (float(stock.values.mean()), 1.0), xycoords=("data", "axes fraction"),
                      ha="center", va="bottom", fontsize=8, color=MUTED)  # fmt: skip
    leaks = "right" if next(v.larger_leaks_more for k, v in results.tables.items() if k.metric == metric) else "left"
    axis.set_xlabel(f"{shown.title}{f' ({shown.unit.strip()})' if shown.unit else ''}\nleaks more to the {leaks}")
    axis.grid(axis="x", color="#e8ebef", linewidth=0.8)
    axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)


def _objective_panel(axis: Axes, cells: Sequence[Cell], defences: Sequence[str]) -> None:
    """The median over runs, relative to the first value on a log scale where no objective goes below zero."""
    curves = {
        (cell.defence, number): np.array(cell.objective)
        for number, cell in enumerate(cells)
        if np.isfinite(cell.objective).all()
    }
    relative = all((curve > 0).all() for curve in curves.values())
    for place, defence in enumerate(defences):
        own = [curve / curve[0] if relative else curve for (label, _), curve in curves.items() if label == defence]
        if not own:
            continue
        length = min(map(len, own))
        median = np.median([curve[:length] for curve in own], axis=0)
        steps = np.unique(np.linspace(0, length - 1, min(length, _POINTS)).astype(int))
        label = short(named(defence), _LEGEND)
        axis.plot(steps + 1, median[steps], color=COLOURS[place % len(COLOURS)], linewidth=1.4, label=label)
    axis.set_xlabel("step")
    axis.set_ylabel("objective / its first value" if relative else "objective")
    if relative and curves:
        axis.set_yscale("log")
        # The default labels are mathematical text, which is off: a label with a dollar sign is no formula.
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())


def short(label: str, width: int) -> str:
    """In lines short enough for an axis or legend; a leading underscore would hide a label from the legend."""
    return textwrap.fill(label.lstrip("_"), width, max_lines=3, placeholder=" …")


def spread_near_one(axis: Axes, estimates: Iterable[Estimate], others: Iterable[float] = ()) -> None:
    """A logit scale for scores above one half, where 0.97 and 0.99 are worlds apart and 0.75 must be seen as well."""
    ends = [end for one in estimates for end in (one.value, one.low, one.high) if end is not None]
    values = [*ends, *others]
    if not values:
        return
    least, most = min(values), min(max(values), _NEARLY_ONE)
    if not 0.5 < least < most or max(values) > 1:
        return
    axis.set_yscale("logit")
    axis.set_ylim(max(0.5, 1 - 1.3 * (1 - least)), 1 - 0.7 * (1 - most))
    axis.yaxis.set_major_locator(FixedLocator([tick for tick in _SCORES if least - 0.05 <= tick <= most + 0.005]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def svg(figure: Figure, prefix: str) -> str:
    """The figure's SVG element, the same for the same figure, with ids that no other figure on the page has."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    names = count()
    ids = {old: f"{prefix}-{next(names)}" for old in dict.fromkeys(re.findall(r'\bid="([^"]+)"', text))}
    text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{ids[found[1]]}"', text)
    text = re.sub(r'(url\(#|href="#)([^")]+)', lambda found: found[1] + ids.get(found[2], found[2]), text)
    # The page sets the size; the viewBox keeps the proportions.
    head, rest = text.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest
