"""Would another reader see the same finding in the reconstruction as in the film?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.registry import register
from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.metrics.judge import judge_of
from gradiograph.metrics.metric import Metric, check_pair

if TYPE_CHECKING:
    from torch import Tensor


@register("metric", "finding_agreement")
def finding_agreement() -> Metric:
    """Whether a judge, which is not the attacked network, reads the same finding, and how far its belief moves.

    Films of one class agree without any leak, as the mismatched control shows: its updates are of films of the same
    classes. What counts is the difference from it.

    Returns:
        The metric with the scores `finding_agreement` (0 or 1, the likeliest finding is the same; larger = more leaked)
        and `finding_distance` (total variation between the two beliefs, in [0, 1]; smaller = more leaked). It raises
        `WeightsProblem` where the audit names no judge.
    """

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        judge = judge_of(context)
        seen, true = (judge.look(images)[1] for images in (guess, truth))
        agrees = (seen.argmax(dim=1) == true.argmax(dim=1)).float()
        distance = 0.5 * (seen - true).abs().sum(dim=1)
        return (
            Score("finding_agreement", "0 or 1, by the judge", True, agrees),
            Score("finding_distance", "total variation, by the judge", False, distance),
        )

    return metric
