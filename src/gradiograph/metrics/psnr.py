"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.registry import register
from gradiograph.metrics.metric import Metric, single_score
from gradiograph.metrics.mse import mean_squared_error

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.scoring import ScoringContext

LIMIT_DB = 100.0


def decibels(guess: Tensor, truth: Tensor) -> Tensor:
    """The peak signal-to-noise ratio (B,) of images (B, C, H, W) in [0, 1], at most `LIMIT_DB`."""
    return -10 * mean_squared_error(guess, truth).clamp(min=10 ** (-LIMIT_DB / 10)).log10()


@register("metric", "psnr")
def psnr() -> Metric:
    """Peak signal-to-noise ratio per record, 10 log10(1 / MSE) in dB; larger = more leaked.

    The data range is 1. Never above 100 dB, which identical images get instead of infinity; the smallest value is 0.

    Returns:
        The metric with the score `psnr`.
    """

    def measure(guess: Tensor, truth: Tensor, _: ScoringContext) -> Tensor:
        return decibels(guess, truth)

    return single_score("psnr", "dB", measure, larger_leaks_more=True)
