"""What rounding to whole numbers does to a Gaussian variable: moments and probabilities, in units of the step."""

from __future__ import annotations

from math import log, pi, sqrt

import torch
from torch import Tensor

from gradiograph.defences.densities import log_excess

_FLOOR = 1e-3
_LOCAL = 0.2
"""Below this standard deviation only the nearest threshold matters; above it two or three Fourier terms are enough."""
_SMOOTH = 10.0
"""From this standard deviation on, in steps, the triangle is as good as a Gaussian of its variance, 1 / 6."""


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
    local = offset + 2 * std * log_excess(offset / std).exp() - offset**2 - variance
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
        within = torch.relu(1 - distance)
        floor = log(_FLOOR) - 3 * distance**2
        return torch.where(within > 0, torch.logaddexp(within.clamp_min(1e-30).log(), floor), floor)
    spread = variance + 1 / 6
    matched = -0.5 * (distance**2 / spread + torch.log(2 * pi * spread))
    std = variance.clamp_min(1e-6).sqrt()
    log_probability = torch.where(std < _SMOOTH, _log_blurred_triangle(distance, std.clamp_max(_SMOOTH)), matched)
    return torch.logaddexp(log_probability, log(_FLOOR) - 0.5 * (distance**2 / spread + torch.log(6 * spread)))


def _log_blurred_triangle(distance: Tensor, std: Tensor) -> Tensor:
    """Log E max(0, 1 - |distance + std Z|): second differences of E max(Z - t, 0), in logs beyond the triangle."""
    inner, middle, outer = (log_excess(t / std) for t in ((distance - 1).abs(), distance, distance + 1))
    inside = torch.relu(1 - distance) + std * (inner.exp() - 2 * middle.exp() + outer.exp())
    share = (1 - 2 * (middle - inner).clamp_max(0).exp() + (outer - inner).clamp_max(0).exp()).clamp_min(1e-12)
    return torch.where(distance < 1, inside.clamp_min(1e-30).log(), torch.log(std) + inner + torch.log(share))
