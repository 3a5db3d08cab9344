"""The chart of utility against leakage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from gradiograph.report.plots import COLOURS, MUTED, STYLE, short, spread_near_one, svg
from gradiograph.report.results import named
from gradiograph.report.wording import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from gradiograph.report.frontier import Point

_LEGEND = 56


def frontier_chart(points: Sequence[Point], references: Mapping[str, float], score: str, number: int) -> str | None:
    """Utility over leakage beyond the control, with 95 % intervals: a line for each protection over its strength.

    Args:
        points: Those of one task and protocol, in the audit file's order.
        references: The utility of other trainings, by name: grey lines across.
        score: What utility is measured by.
        number: Tells this figure's element ids from those of the page's other figures.

    Returns:
        SVG text; None where no protection has both numbers.
    """
    shown = [point for point in points if point.utility.value is not None]
    if not shown:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        axis = figure.subplots()
        for name, value in references.items():
            axis.axhline(value, color=MUTED, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
            axis.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                          fontsize=8, color=MUTED)  # fmt: skip
        for place, family in enumerate(dict.fromkeys(point.family for point in shown)):
            _line(axis, [point for point in shown if point.family == family], COLOURS[place % len(COLOURS)])
        front = sorted((p for p in shown if p.on_front), key=lambda p: p.leakage.mean)
        axis.plot(
            [_percent(p)[0] for p in front], [p.utility.value or 0.0 for p in front], "o", ms=13, mfc="none",
            mec=MUTED, linestyle="none", label="Pareto front", zorder=1,
        )  # fmt: skip
        _bounds(axis, [point for point in shown if point.bound is not None])
        spread_near_one(axis, [point.utility for point in shown], references.values())
        title = measure(shown[0].metric).title
        axis.set_xlabel(f"{title} beyond the control{_unit(shown[0])}: leaks more to the right")
        axis.set_ylabel(f"{score} of the trained model")
        axis.grid(color="#e8ebef", linewidth=0.8)
        axis.set_axisbelow(True)
        figure.legend(
            *axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8.5
        )
        return svg(figure, f"frontier{number}")


def _line(axis: Axes, points: Sequence[Point], colour: str) -> None:
    across, up = [_percent(point) for point in points], [point.utility for point in points]
    for (mean, low, high), useful in zip(across, up, strict=True):
        axis.hlines(useful.value or 0.0, low, high, color=colour, linewidth=1)
        if useful.low is not None and useful.high is not None:
            axis.vlines(mean, useful.low, useful.high, color=colour, linewidth=1)
    name = named(points[0].family)
    axis.plot([mean for mean, _, _ in across], [u.value or 0.0 for u in up], "o-", ms=5, color=colour, linewidth=1.4,
              label=short(name, _LEGEND))  # fmt: skip


def _bounds(axis: Axes, points: Sequence[Point]) -> None:
    """A mark where the formal guarantee ends what any attack can do."""
    across = [measure(point.metric).factor * (point.bound or 0.0) for point in points]
    if points:
        axis.plot(across, [point.utility.value or 0.0 for point in points], "|", ms=14, mew=2, color="#b3261e",
                  linestyle="none", label="formal bound on any attack")  # fmt: skip


def _percent(point: Point) -> tuple[float, float, float]:
    factor = measure(point.metric).factor
    return (factor * point.leakage.mean, factor * point.leakage.low, factor * point.leakage.high)


def _unit(point: Point) -> str:
    unit = measure(point.metric).unit.strip()
    return f" ({'percentage points' if unit == '%' else unit})" if unit else ""
