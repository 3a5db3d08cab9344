"""How far apart are two films to a network that knows radiographs?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.metrics.judge import JUDGE, judge_of
from gradiograph.metrics.metric import Metric, check_pair

if TYPE_CHECKING:
    from torch import Tensor


@register("metric", "feature_distance")
def feature_distance(*, judge: Annotated[str, Field(pattern=r"^[a-z_]+$")] = JUDGE) -> Metric:
    """Euclidean distance of a judge's embeddings, which it learned to tell films and patients apart by.

    LPIPS for radiographs, so to speak: its features are of photographs, the judge's of films.

    Args:
        judge: Which of the audit's `networks` looks.

    Returns:
        The metric with the score `feature_distance` (in [0, 2], for embeddings have length 1; smaller = more leaked).
        It raises `WeightsProblem` where the audit names no such judge.
    """

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        network = judge_of(context, judge)
        distance = (network.look(guess)[0] - network.look(truth)[0]).norm(dim=1)
        return (Score("feature_distance", "Euclidean, of the judge's embeddings", False, distance),)

    return metric
