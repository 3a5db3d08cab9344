"""Mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.registry import register
from gradiograph.metrics.metric import Metric, single_score

if TYPE_CHECKING:
    from torch import Tensor


def mean_squared_error(guess: Tensor, truth: Tensor) -> Tensor:
    """The mean squared error of each record, over channels and pixels.

    Args:
        guess: (B, C, H, W) in [0, 1].
        truth: The same shape.

    Returns:
        float64 (B,) in [0, 1].

    >>> import torch
    >>> mean_squared_error(torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)).tolist()
    [0.25, 0.25]
    """
    return (guess.double() - truth.double()).square().mean(dim=(1, 2, 3))


@register("metric", "mse")
def mse() -> Metric:
    """Mean squared error per record, in [0, 1]; smaller = more leaked.

    Returns:
        The metric with the score `mse`.
    """
    return single_score(
        "mse", "[0, 1]", lambda guess, truth, _: mean_squared_error(guess, truth), larger_leaks_more=False
    )
