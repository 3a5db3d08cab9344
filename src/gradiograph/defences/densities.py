"""Log densities and log probabilities of Gaussian and Laplace variables, stable in the tails and element by element."""

from __future__ import annotations

from math import log, pi, sqrt

import torch
from torch import Tensor

_HALF_LOG_TAU = 0.5 * log(2 * pi)
_NARROW = 0.1
"""Cells narrower than this many standard deviations are integrated by series: the difference would cancel."""


def log_normal(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log density of N(mean, variance) at value; variance > 0.

    >>> log_normal(torch.zeros(1), torch.zeros(1), torch.ones(1))
    tensor([-0.9189])
    """
    return -0.5 * ((value - mean) ** 2 / variance + torch.log(variance)) - _HALF_LOG_TAU


def log_interval(lower: Tensor, upper: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log P(lower <= X <= upper) for X ~ N(mean, std^2), with lower < upper, both finite, and std > 0.

    >>> log_interval(torch.tensor([-1.0]), torch.tensor([1.0]), torch.zeros(1), torch.ones(1)).exp()
    tensor([0.6827])
    """
    low, high = ((lower - mean) / std).clamp(-1e9, 1e9), ((upper - mean) / std).clamp(-1e9, 1e9)
    # By symmetry the cell is moved to the left of the mean, where log_ndtr keeps its digits.
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    wide = log_high + torch.log(-torch.expm1(-(log_high - log_low).clamp_min(1e-6)))
    # phi(m + t) = phi(m) exp(-m t) exp(-t^2 / 2): the middle factor is integrated exactly, the last to second order.
    middle, width = 0.5 * (low + high), ((upper - lower) / std).clamp_min(1e-30)
    slant = middle * width / 2
    narrow = log_normal(middle, torch.zeros_like(middle), torch.ones_like(middle)) + torch.log(width)
    narrow = narrow + _log_sinhc(slant) - width**2 / 24
    return torch.where(width < _NARROW, narrow, wide)


def log_laplace(value: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Log density of the Laplace distribution of this mean and scale b > 0 at value."""
    return -(value - mean).abs() / scale - torch.log(2 * scale)


def log_normal_laplace(value: Tensor, mean: Tensor, variance: Tensor, scale: Tensor) -> Tensor:
    """Log density of a N(mean, variance) variable plus independent Laplace noise of scale b > 0.

    The convolution has a closed form (Reed 2006, "The Normal-Laplace Distribution and Its Relatives"). Where the
    Gaussian is over 30 times as wide as b, the Gaussian of equal moments stands in, which is then off by at most 3e-4
    within five standard deviations; where it is under a thousandth of b, its width is taken as that.
    """
    std = variance.clamp_min(1e-6 * scale.square()).sqrt()
    ratio = (std / scale).clamp_max(30.0)
    offset = value - mean
    right = -offset / scale + torch.special.log_ndtr(offset / std - ratio)
    left = offset / scale + torch.special.log_ndtr(-offset / std - ratio)
    exact = torch.logaddexp(right, left) + 0.5 * ratio**2 - torch.log(2 * scale)
    matched = log_normal(value, mean, std.square() + 2 * scale.square())
    return torch.where(ratio < 30.0, exact, matched)


def log_excess(threshold: Tensor) -> Tensor:
    """Log of E max(Z - t, 0) = phi(t) - t Phi(-t) for a standard normal Z and t >= 0.

    >>> log_excess(torch.tensor([0.0, 40.0]))
    tensor([  -0.9189, -808.2986])
    """
    near = threshold.clamp_max(20.0)
    ratio = near * sqrt(pi / 2) * torch.special.erfcx(near / sqrt(2))  # t Phi(-t) / phi(t)
    far = threshold.clamp_min(20.0)
    share = torch.where(threshold < 20.0, torch.log1p(-ratio), torch.log1p(-3 / far**2) - 2 * torch.log(far))
    return share - 0.5 * threshold**2 - _HALF_LOG_TAU


def _log_sinhc(x: Tensor) -> Tensor:
    """Log of sinh(x) / x."""
    size = x.abs().clamp_min(1e-2)
    far = size + torch.log(-torch.expm1(-2 * size)) - torch.log(2 * size)
    return torch.where(x.abs() < 1e-2, x**2 / 6, far)
