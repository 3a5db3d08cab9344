"""What protections cost and what they stop, for each task and protocol: the table, the points and the charts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from gradiograph.report.budget_chart import budget_chart
from gradiograph.report.frontier import frontier
from gradiograph.report.frontier_plot import frontier_chart
from gradiograph.report.utility import FEDERATED, name_of, score, utility_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.report.frontier import Point
    from gradiograph.report.results import Results
    from gradiograph.report.utility import Model, UtilityTable


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """Utility beside leakage under one task and protocol.

    Attributes:
        table: The utility of every training.
        points: One for each protection that was attacked and trained.
        chart: SVG, utility over leakage; None where nothing has both.
        budget_chart: SVG, both over epsilon; None where fewer than two protections have a budget.
    """

    table: UtilityTable
    points: tuple[Point, ...]
    chart: Markup | None = field(repr=False)
    budget_chart: Markup | None = field(repr=False)


def trade_offs(results: Results, found: Sequence[Model]) -> tuple[TradeOff, ...]:
    """One for each task and protocol, in the audit file's order; none without trainings."""
    if not found:
        return ()
    made, everything, title = [], frontier(results, found), score(results).title
    for number, table in enumerate(utility_tables(results, found)):
        points = tuple(point for point in everything if point.setting == table.setting)
        others = [m for m in found if m.setting == table.setting and m.arm != FEDERATED]
        values = {name_of(model): model.value(score(results)).value for model in others}
        references = {name: value for name, value in values.items() if value is not None}
        made.append(
            TradeOff(
                table=table,
                points=points,
                chart=_drawn(frontier_chart(points, references, title, number)),
                budget_chart=_drawn(budget_chart(results, points, title, number)),
            )
        )
    return tuple(made)


def _drawn(chart: str | None) -> Markup | None:
    # matplotlib escapes the labels in what it draws.
    return None if chart is None else Markup(chart)  # noqa: S704
