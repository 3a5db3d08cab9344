"""Laplace noise on every value of the update."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.defences.additive_noise import AdditiveNoise, one_strength
from gradiograph.defences.densities import log_laplace, log_normal_laplace

if TYPE_CHECKING:
    from torch import Tensor


@register("defence", "laplace_noise", paper="Dwork et al. 2006, TCC, Calibrating Noise to Sensitivity")
@dataclass(frozen=True, kw_only=True)
class LaplaceNoise(AdditiveNoise):
    """Laplace noise on every value of the update.

    State the strength in exactly one way. Alone this is no formal guarantee: that takes a bounded L1 sensitivity and an
    account of the privacy budget over the rounds, neither of which is kept here.

    The likelihood is the absolute error in units of b; for a belief with variance it is the exact convolution of its
    Gaussian with the Laplace density.

    Args:
        std: Standard deviation, in the update's unit, sqrt(2) b; 0 is no noise.
        scale: The scale b of the density exp(-|x| / b) / (2 b).
        snr: Power of the whole update over power of the noise, ||u||^2 / (2 d b^2). The server estimates b from what
            it sees: 2 b^2 = ||v||^2 / (d (1 + snr)).

    Raises:
        BadSetting: no strength or more than one.

    >>> LaplaceNoise(scale=0.0).on_update({"w": torch.zeros(2)}, torch.Generator())["w"]
    tensor([0., 0.])
    """

    std: Annotated[float, Field(ge=0)] | None = None
    scale: Annotated[float, Field(ge=0)] | None = None
    snr: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        ways = {"std": self.std is not None, "scale": self.scale is not None, "snr": self.snr is not None}
        one_strength("laplace_noise", ways)

    def _fixed_variance(self) -> float | None:
        if self.scale is not None:
            return 2 * self.scale**2
        return None if self.std is None else self.std**2

    def _snr(self) -> float:
        return self.snr or 0.0

    def _draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(like.shape, generator=generator, dtype=like.dtype) - 0.5  # in [-1/2, 1/2)
        # log1p of twice the magnitude; -1/2 itself would give -inf.
        size = -torch.log1p((-2 * uniform.abs()).clamp_min(-1 + torch.finfo(like.dtype).eps / 2))
        return (uniform.sign() * size / sqrt(2)).to(like.device)

    def _log_density(self, noise: Tensor, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        scale = (noise / 2).sqrt()
        if variance is None:
            return log_laplace(seen, mean, scale)
        return log_normal_laplace(seen, mean, variance, scale)
