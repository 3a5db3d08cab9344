"""The magnitude that so many Gaussian variables are expected to exceed: thresholds and maxima of a belief."""

from __future__ import annotations

import torch
from torch import Tensor

_SAMPLE = 2**17
MAXIMUM = 0.693
"""log 2 expected exceedances: the largest magnitude is as often above that threshold as below it."""


def exceedance_threshold(mean: Tensor, variance: Tensor, expected: float) -> Tensor:
    """The t for which sum_i P(|X_i| > t) = expected in each row, X_i ~ N(mean_i, variance_i); no gradient.

    Found by bisection; rows longer than 131 072 are represented by evenly spaced values.

    Args:
        mean: (R, n).
        variance: (R, n).
        expected: In (0, n).

    Returns:
        (R, 1).

    >>> exceedance_threshold(torch.zeros(1, 1000), torch.ones(1, 1000), 317.3)
    tensor([[1.0000]])
    """
    with torch.no_grad():
        step = max(1, mean.shape[1] // _SAMPLE)
        centre, std = mean[:, ::step], variance[:, ::step].clamp_min(1e-30).sqrt()
        share = expected / mean.shape[1]
        low = torch.zeros_like(centre[:, :1])
        high = (centre.abs() + 8 * std).amax(dim=1, keepdim=True)
        for _ in range(30):
            middle = (low + high) / 2
            above = torch.special.ndtr((centre - middle) / std) + torch.special.ndtr((-centre - middle) / std)
            too_low = above.mean(dim=1, keepdim=True) > share
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return (low + high) / 2


def expected_maximum(mean: Tensor, variance: Tensor | None) -> Tensor:
    """The median of the largest magnitude in each row (R, n), exact without variance: (R, 1), no gradient."""
    largest = mean.detach().abs().amax(dim=1, keepdim=True)
    if variance is None:
        return largest
    return exceedance_threshold(mean, variance, MAXIMUM).maximum(largest)
