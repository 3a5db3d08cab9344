"""What the reconstruction explains beyond the mean film."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.registry import register
from gradiograph.metrics.metric import Metric, single_score
from gradiograph.metrics.mse import mean_squared_error

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.scoring import ScoringContext

SMALLEST_MSE = 1e-10


@register("metric", "variance_explained")
def variance_explained() -> Metric:
    """1 - MSE / MSE(mean film), per record: 1 is the film itself, 0 no better than the mean; larger = more leaked.

    The mean film is the mean of the attacker's public films, so that what everybody's film shares counts as nothing.
    Negative where the reconstruction is worse than the mean film. The denominator is at least 1e-10 (100 dB), so
    that a record that is the mean film has a finite value.

    Returns:
        The metric with the score `variance_explained`.
    """

    def measure(guess: Tensor, truth: Tensor, context: ScoringContext) -> Tensor:
        mean = context.mean_film.to(truth.device).expand_as(truth)
        return 1 - mean_squared_error(guess, truth) / mean_squared_error(mean, truth).clamp(min=SMALLEST_MSE)

    return single_score("variance_explained", "share, 1 at most", measure, larger_leaks_more=True)
