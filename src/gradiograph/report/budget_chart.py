"""The chart of differential privacy: what each budget costs the model, what it bounds and what it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from gradiograph.report.plots import COLOURS, MUTED, STYLE, spread_near_one, svg
from gradiograph.report.privacy import IDENTIFICATION, trained_epsilon
from gradiograph.report.results import ATTACK, MISMATCHED, UNDEFENDED, Results, Setting, task_at
from gradiograph.report.statistics import Interval, Key, summary
from gradiograph.report.wording import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from gradiograph.report.frontier import Point

_BEYOND = 30.0
"""How far right of the largest budget no protection is drawn, as a factor."""
_RED = "#b3261e"


class _Place(NamedTuple):
    epsilon: float
    point: Point


def budget_chart(results: Results, points: Sequence[Point], score: str, number: int) -> str | None:
    """Utility, identification and LPIPS over epsilon, each beside its control, its bound or no protection at all.

    Args:
        results: The log, read.
        points: Those of one task and protocol, in the audit file's order.
        score: What utility is measured by.
        number: Tells this figure's element ids from those of the page's other figures.

    Returns:
        SVG text; None where fewer than two protections have a budget.
    """
    budgets = [(trained_epsilon(results, point.setting, point.defence), point) for point in points]
    places = sorted((_Place(epsilon, point) for epsilon, point in budgets if epsilon), key=lambda place: place.epsilon)
    if len(places) < 2:
        return None
    ticks = [place.epsilon for place in places]
    labels = [f"{epsilon:.3g}" for epsilon in ticks]
    bare = [_Place(ticks[-1] * _BEYOND, point) for point in points if point.defence == UNDEFENDED]
    metrics = [name for name in (IDENTIFICATION, "lpips") if name in results.metrics]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.4 * (1 + len(metrics))), layout="constrained")
        axes = figure.subplots(1 + len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        axes[0].set_xscale("log")
        _utility(axes[0], places, bare, score)
        spread_near_one(axes[0], [point.utility for _, point in (*places, *bare)])
        for axis, metric in zip(axes[1:], metrics, strict=True):
            _leakage(axis, results, places, bare, metric)
        axes[-1].set_xlabel("epsilon of the training, by the account (log scale)")
        axes[-1].set_xticks([*ticks, *(place.epsilon for place in bare)], [*labels, *("no protection" for _ in bare)])
        axes[-1].minorticks_off()
        for axis in axes:
            axis.grid(color="#e8ebef", linewidth=0.8)
            axis.set_axisbelow(True)
            axis.legend(frameon=False, fontsize=8.5)
        return svg(figure, f"budgets{number}")


def _utility(axis: Axes, places: Sequence[_Place], bare: Sequence[_Place], score: str) -> None:
    for chosen, line in ((places, "o-"), (bare, "o")):
        known = [(epsilon, point.utility) for epsilon, point in chosen if point.utility.value is not None]
        for epsilon, found in known:
            if found.low is not None and found.high is not None:
                axis.vlines(epsilon, found.low, found.high, color=COLOURS[0], linewidth=1.2)
        axis.plot([e for e, _ in known], [found.value or 0.0 for _, found in known], line, ms=5, color=COLOURS[0],
                  label="the trained model" if line == "o-" else None)  # fmt: skip
    axis.set_ylabel(score)


def _leakage(axis: Axes, results: Results, places: Sequence[_Place], bare: Sequence[_Place], metric: str) -> None:
    factor, unit = measure(metric).factor, measure(metric).unit.strip()
    for control, colour, name in ((ATTACK, COLOURS[1], "strongest attack"), (MISMATCHED, MUTED, "its control")):
        for chosen, line in ((places, "o-"), (bare, "o")):
            found = [(epsilon, interval) for epsilon, point in chosen
                     if (interval := _strongest(results, point, control, metric)) is not None]  # fmt: skip
            for epsilon, interval in found:
                axis.vlines(epsilon, factor * interval.low, factor * interval.high, color=colour, linewidth=1.2)
            axis.plot([e for e, _ in found], [factor * interval.mean for _, interval in found], line, ms=5,
                      color=colour, mfc=colour if control == ATTACK else "white",
                      label=name if line == "o-" else None)  # fmt: skip
    bounded = [(epsilon, point.bound) for epsilon, point in places if point.bound is not None]
    if metric == IDENTIFICATION and bounded:
        axis.plot([e for e, _ in bounded], [factor * bound for _, bound in bounded], "--", color=_RED, linewidth=1.2,
                  label="bound on any attack, beyond a guess")  # fmt: skip
    axis.set_ylabel(f"{measure(metric).title}{f' ({unit})' if unit else ''}")


def _strongest(results: Results, point: Point, control: str, metric: str) -> Interval | None:
    """What the attack that identifies most, in the round where it does, has of a metric."""
    setting = Setting(task_at(point.setting.task, point.round), point.setting.protocol)
    values = results.tables.get(Key(*setting, point.defence, point.attack, control, metric))
    return None if values is None else summary(values).interval
