"""Utility against leakage: what each protection stops, and what it costs."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradiograph.report.findings import findings
from gradiograph.report.privacy import IDENTIFICATION, excess_bound
from gradiograph.report.results import UNDEFENDED, Results, Setting, task_at
from gradiograph.report.statistics import Interval
from gradiograph.report.utility import FEDERATED, Model, baseline, score
from gradiograph.utility import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.report.findings import Finding


@dataclass(frozen=True, kw_only=True)
class Point:
    """One protection: its strongest attack in any attacked round, and the utility of the model trained under it.

    Attributes:
        setting: Task and protocol.
        defence: Its label.
        family: What it is without its strength: one line in the chart.
        metric: What leakage is measured by.
        attack: The attack with the largest mean excess over its control.
        round: The round that it attacked.
        leakage: That excess with its 95 % interval, positive is a leak.
        upper: The largest upper 95 % limit of any attack in any round.
        breached: Whether any attack does better than its control.
        utility: The audit's score of the model.
        loss: What it lost against no protection; positive is worse.
        bytes_up: What all clients send in a round.
        seconds: Of a round of training.
        bound: The most by which any attack can identify films more often than a guess; None without a formal guarantee.
        on_front: No other protection leaks less and is at least as useful, or the other way round.
    """

    setting: Setting
    defence: str
    family: str
    metric: str
    attack: str
    round: int
    leakage: Interval
    upper: float
    breached: bool
    utility: Estimate
    loss: Estimate
    bytes_up: float
    seconds: float
    bound: float | None = None
    on_front: bool = False


def frontier(results: Results, found: Sequence[Model]) -> tuple[Point, ...]:
    """A point for each protection that was attacked beside its control and trained, in the audit file's order.

    Where the training failed, the utility is undefined and the point is on no front.
    """
    points: list[Point] = []
    for setting in dict.fromkeys(model.setting for model in found):
        own = {model.defence: model for model in found if (model.setting, model.arm) == (setting, FEDERATED)}
        names = dict.fromkeys((UNDEFENDED, *results.entries("defences")))
        made = [_point(results, found, own[name]) for name in names if name in own]
        points += _marked(results, [point for point in made if point is not None])
    return tuple(points)


def to_csv(points: Sequence[Point]) -> bytes:
    """The frontier as a table, one protection a line; what is undefined is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for p in points:
        leak = (p.leakage.mean, p.leakage.low, p.leakage.high, p.upper)
        useful = (p.utility.value, p.utility.low, p.utility.high, p.loss.value, p.loss.low, p.loss.high)
        numbers = ["" if value is None else value for value in (*leak, *useful)]
        place = (*p.setting, p.defence, p.family, p.metric, p.attack, p.round)
        bound = "" if p.bound is None else p.bound
        writer.writerow([*place, *numbers, p.bytes_up, p.seconds, "true" if p.on_front else "false", bound])
    return buffer.getvalue().encode()


COLUMNS = (
    "task", "protocol", "defence", "family", "metric", "attack", "round", "leakage", "leakage_low", "leakage_high",
    "leakage_upper", "utility", "utility_low", "utility_high", "loss", "loss_low", "loss_high", "bytes_per_round",
    "seconds_per_round", "on_front", "bound",
)  # fmt: skip


def _point(results: Results, found: Sequence[Model], model: Model) -> Point | None:
    task, protocol = model.setting
    attacked = [
        (number, finding, leak)
        for number in results.rounds
        for finding in findings(results, Setting(task_at(task, number), protocol), model.defence)
        if (leak := _excess(finding)) is not None
    ]
    if not attacked:
        return None
    number, strongest, leak = max(attacked, key=lambda entry: entry[2].mean)
    reference, measure = baseline(found, model.setting), score(results)
    if model.defence == UNDEFENDED or reference is None:
        loss = Estimate(value=0.0) if model.predictions else Estimate(value=None, undefined="the training failed")
    else:
        loss = model.loss(reference, measure)
    identified = strongest.attacked.metric == IDENTIFICATION
    return Point(
        setting=model.setting,
        defence=model.defence,
        family=str(results.entries("defences").get(model.defence, {}).get("family", model.defence)),
        metric=strongest.attacked.metric,
        attack=strongest.attack,
        round=number,
        leakage=leak,
        upper=max(entry.high for _, _, entry in attacked),
        breached=any(finding.breached for _, finding, _ in attacked),
        utility=model.value(measure),
        loss=loss,
        bytes_up=model.bytes_up,
        seconds=model.seconds,
        bound=excess_bound(results, model.setting, model.defence) if identified else None,
    )


def _excess(finding: Finding) -> Interval | None:
    """The attack's leakage beyond its control, larger is more whatever the metric's direction; None without one."""
    if finding.difference is None:
        return None
    found = finding.difference.interval
    if finding.attacked.larger_leaks_more:
        return found
    return Interval(mean=-found.mean, low=-found.high, high=-found.low)


def _marked(results: Results, points: list[Point]) -> list[Point]:
    """The points with the front marked: those that no other beats in both, and in one of the two strictly."""
    sign = 1.0 if score(results).larger_is_better else -1.0
    places = [(p.leakage.mean, -sign * p.utility.value) if p.utility.value is not None else None for p in points]

    def beaten(place: tuple[float, float]) -> bool:
        return any(o is not None and o != place and o[0] <= place[0] and o[1] <= place[1] for o in places)

    return [
        replace(point, on_front=place is not None and not beaten(place))
        for point, place in zip(points, places, strict=True)
    ]
