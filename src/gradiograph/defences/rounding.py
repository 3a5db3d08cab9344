"""What rounding to whole numbers does to a Gaussian variable: moments and probabilities, in units of the step."""

from __future__ import annotations

from math import log, pi, sqrt

import torch
from torch import Tensor

from gradiograph.defences.densities import excess

_FLOOR = 1e-3
_LOCAL = 0.2
"""Below this standard deviation only the nearest threshold matters; above it two or three Fourier terms are enough."""


def rounded_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of X rounded to the nearest integer, X ~ N(mean, variance), to about 1 % of a step.

    >>> mean, variance = rounded_moments(torch.tensor([0.5]), torch.tensor([0.01]))
    >>> mean.item(), variance.item()
    (0.5, 0.25)
    """
    std = variance.clamp_min(1e-12).sqrt()
    threshold = torch.floor(mean) + 0.5
    side = torch.erf((mean - threshold) / (std * sqrt(2)))
    error, slope, square = torch.zeros_like(mean), torch.zeros_like(mean), torch.full_like(mean, 1 / 12)
    for k in (1, 2, 3):
        damped = (-1) ** k * torch.exp(-2 * (pi * k) ** 2 * variance)
        error = error + damped * torch.sin(2 * pi * k * mean) / (pi * k)
        wave = damped * torch.cos(2 * pi * k * mean)
        slope, square = slope + 2 * wave, square + wave / (pi * k) ** 2
    series = variance + 2 * variance * slope + square - error**2
    local = std < _LOCAL
    return (
        torch.where(local, threshold + 0.5 * side, mean + error),
        torch.where(local, 0.25 * (1 - side**2), series).clamp_min(0),
    )


def stochastic_rounding_variance(mean: Tensor, variance: Tensor | None) -> Tensor:
    """E[p (1 - p)], p the fractional part of X ~ N(mean, variance): what unbiased rounding adds to the variance.

    Exact without variance, else to about 0.001.

    >>> stochastic_rounding_variance(torch.tensor([0.5, 2.0]), None)
    tensor([0.2500, 0.0000])
    """
    offset = (mean - torch.round(mean)).abs()
    if variance is None:
        return offset - offset**2
    std = variance.clamp_min(1e-12).sqrt()
    local = offset + 2 * std * excess(offset / std) - offset**2 - variance
    series = torch.full_like(mean, 1 / 6)
    for k in (1, 2):
        series = series - torch.cos(2 * pi * k * mean) * torch.exp(-2 * (pi * k) ** 2 * variance) / (pi * k) ** 2
    return torch.where(std < _LOCAL, local, series).clamp_min(0)


def log_stochastic_level(level: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
    """Log probability that unbiased stochastic rounding takes X ~ N(mean, variance) to this whole level.

    Given X it is the triangle max(0, 1 - |X - level|), and its average over the Gaussian has a closed form. A level
    that X cannot reach has probability zero, which leaves no slope to climb: a share of 0.001 of a Gaussian of the
    triangle's variance is added, so that log p falls off with the square of the distance there.

    Args:
        level: Whole numbers, any shape.
        mean: Of that shape, in units of the step.
        variance: Of that shape, in squared steps, or None.

    Returns:
        Of that shape.
    """
    distance = (mean - level).abs()
    if variance is None:
        probability, spread = torch.relu(1 - distance), torch.full_like(distance, 1 / 6)
    else:
        std = variance.clamp_min(1e-6).sqrt()
        blur = excess((distance - 1).abs() / std) - 2 * excess(distance / std) + excess((distance + 1) / std)
        spread = variance + 1 / 6
        matched = torch.exp(-0.5 * distance**2 / spread) / (2 * pi * spread).sqrt()
        probability = torch.where(std < 10, torch.relu(1 - distance) + std * blur, matched)
    floor = log(_FLOOR) - 0.5 * (distance**2 / spread + torch.log(6 * spread))
    return torch.logaddexp(probability.clamp_min(1e-30).log(), floor)
