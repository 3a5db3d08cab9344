"""Multi-scale structural similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gradiograph.core.registry import register
from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.metrics.metric import Metric, check_pair
from gradiograph.metrics.ssim import WINDOW, similarity

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def count_scales(height: int, width: int) -> int:
    """How many of the five scales fit: the coarsest image must hold the 11 x 11 window.

    >>> [count_scales(size, 256) for size in (28, 64, 128, 175, 176)]
    [2, 3, 4, 4, 5]
    """
    fitting = [scale for scale in range(len(WEIGHTS)) if min(height, width) >> scale >= WINDOW]
    return max(len(fitting), 1)


def _multi_scale(guess: Tensor, truth: Tensor, scales: int) -> Tensor:
    """(B,) in [0, 1]."""
    total = sum(WEIGHTS[:scales]) if scales < len(WEIGHTS) else 1.0  # the published five sum to 1.0001
    value = torch.ones(len(truth), dtype=torch.float64, device=truth.device)
    for scale, weight in enumerate(WEIGHTS[:scales]):
        whole, contrast = similarity(guess, truth)
        factor = whole if scale == scales - 1 else contrast
        value = value * factor.clamp(min=0) ** (weight / total)
        if scale < scales - 1:
            guess, truth = F.avg_pool2d(guess, 2), F.avg_pool2d(truth, 2)
    return value


@register("metric", "ms_ssim", paper="Wang, Simoncelli and Bovik 2003, doi 10.1109/ACSSC.2003.1292216")
def ms_ssim() -> Metric:
    """Multi-scale structural similarity per record, in [0, 1]; larger = more leaked.

    Wang et al. 2003, equation 7, with the weights of section 3.2: five scales from 176 pixels on.

    Differs from the paper: below 176 pixels there are as many scales as leave an image of at least 11 pixels, with
    their weights scaled to sum one (the score's unit says how many; the number of scales changes the value); a
    scale's negative mean counts as zero; RGB is averaged over the channels at each scale.

    Returns:
        The metric with the score `ms_ssim`. It raises `BadInput` for images smaller than 11 x 11.
    """

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        scales = count_scales(*truth.shape[-2:])
        with torch.no_grad():
            values = _multi_scale(guess, truth, scales).float()
        return (Score("ms_ssim", f"[0, 1], {scales} scale{'s' if scales > 1 else ''}", True, values),)

    return metric
