"""Would another reader see the same finding in the reconstruction as in the film?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.metrics.judge import JUDGE, judge_of
from gradiograph.metrics.metric import Metric, check_pair

if TYPE_CHECKING:
    from torch import Tensor

_NAME = r"^[a-z_]+$"


@register("metric", "finding_agreement")
def finding_agreement(
    *, judge: Annotated[str, Field(pattern=_NAME)] = JUDGE, scores: Annotated[str, Field(pattern=_NAME)] = "finding"
) -> Metric:
    """Whether a judge, which is not the attacked network, reads the same finding, and how far its belief moves.

    Films of one class agree without any leak, as the mismatched control shows: its updates are of films of the same
    classes. What counts is the difference from it. With another judge, trained on other labels of the same films, it
    asks for another attribute: what a server could infer of the patient beside the finding. Where a film has one
    finding, as here, the Jaccard index of the findings is the agreement.

    Args:
        judge: Which of the audit's `networks` reads.
        scores: What the names of its scores begin with: another for each judge.

    Returns:
        The metric with the scores `finding_agreement` (0 or 1, the likeliest finding is the same; larger = more leaked)
        and `finding_distance` (total variation between the two beliefs, in [0, 1]; smaller = more leaked). It raises
        `WeightsProblem` where the audit names no judge.
    """

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        reader = judge_of(context, judge)
        seen, true = (reader.look(images)[1] for images in (guess, truth))
        agrees = (seen.argmax(dim=1) == true.argmax(dim=1)).float()
        distance = 0.5 * (seen - true).abs().sum(dim=1)
        return (
            Score(f"{scores}_agreement", "0 or 1, by the judge", True, agrees),
            Score(f"{scores}_distance", "total variation, by the judge", False, distance),
        )

    return metric
