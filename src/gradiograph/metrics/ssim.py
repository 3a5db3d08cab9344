"""Structural similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from gradiograph.core.errors import BadInput
from gradiograph.core.registry import register
from gradiograph.metrics.metric import Metric, single_score

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


def _local_mean(planes: Tensor) -> Tensor:
    """(N, 1, H, W) under the Gaussian window, where it fits: (N, 1, H - 10, W - 10)."""
    offsets = torch.arange(WINDOW, dtype=planes.dtype, device=planes.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = F.conv2d(planes, weights.view(1, 1, WINDOW, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, WINDOW))


def similarity(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Structural similarity of each record, and its factor without the luminance.

    Args:
        guess: (B, C, H, W) in [0, 1], at least 11 x 11.
        truth: The same shape.

    Returns:
        float64 (B,) in [-1, 1]: the mean over channels and window positions of SSIM (Wang et al. 2004, equation 13),
        and of contrast times structure (the second factor of equation 13).

    Raises:
        BadInput: the images are smaller than the window.
    """
    if min(truth.shape[-2:]) < WINDOW:
        height, width = truth.shape[-2:]
        msg = (
            f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels; got {height} x {width}. "
            "Raise `image_size`, or leave 'ssim' and 'ms_ssim' out of `metrics`."
        )
        raise BadInput(msg)
    x, y = (images.double().flatten(0, 1).unsqueeze(1) for images in (guess, truth))
    means = _local_mean(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    mean_x, mean_y = means[0], means[1]
    variances = (means[2] - mean_x**2) + (means[3] - mean_y**2)
    covariance = means[4] - mean_x * mean_y
    contrast = (2 * covariance + C2) / (variances + C2)
    whole = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1) * contrast
    batch = len(truth)
    return whole.reshape(batch, -1).mean(1), contrast.reshape(batch, -1).mean(1)


@register("metric", "ssim", paper="Wang et al. 2004, IEEE TIP 13(4), doi 10.1109/TIP.2003.819861")
def ssim() -> Metric:
    """Structural similarity per record, in [-1, 1]; larger = more leaked.

    Wang et al. 2004, equation 13: Gaussian window 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, only
    where the window fits.

    Differs from the paper: RGB is the mean over the channels (the paper has luminance only).

    Returns:
        The metric with the score `ssim`. It raises `BadInput` for images smaller than 11 x 11.
    """
    return single_score("ssim", "[-1, 1]", lambda guess, truth, _: similarity(guess, truth)[0], larger_leaks_more=True)
