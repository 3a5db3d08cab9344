"""Gaussian noise on every value of the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.errors import BadSetting
from gradiograph.core.factored import OuterSum, factors, inner, squared_distance
from gradiograph.core.registry import register
from gradiograph.defences.additive_noise import AdditiveNoise, one_strength
from gradiograph.defences.densities import log_normal

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Tensors

MOST_POWER = 100.0
"""Of a tensor, over the noise's, at which the squared error is still had from inner products to enough digits."""


@register("defence", "gaussian_noise", paper="Abadi et al. 2016, arXiv 1607.00133")
@dataclass(frozen=True, kw_only=True)
class GaussianNoise(AdditiveNoise):
    """Gaussian noise on every value of the update.

    State the strength in exactly one way. Alone this is no formal guarantee: that takes a bounded sensitivity (`clip`
    before it) and an account of the privacy budget over the rounds, which is not kept here.

    Args:
        std: Standard deviation, in the update's unit; 0 is no noise.
        noise_multiplier: Standard deviation as a multiple of `clip_norm` ("sigma over C"). Does not clip: place `clip`
            with the same norm before it.
        clip_norm: The bound C that the multiplier refers to.
        snr: Power of the whole update over power of the noise, ||u||^2 / (d sigma^2). The server estimates sigma from
            what it sees: sigma^2 = ||v||^2 / (d (1 + snr)).

    Raises:
        BadSetting: no strength, more than one, or a multiplier without its `clip_norm`.

    Differs from the paper: on one client's update, once per round, not on the sum of clipped gradients per example.

    >>> update = {"w": torch.zeros(2)}
    >>> GaussianNoise(std=0.0).on_update(update, torch.Generator())["w"]
    tensor([0., 0.])
    """

    std: Annotated[float, Field(ge=0)] | None = None
    noise_multiplier: Annotated[float, Field(ge=0)] | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    snr: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        relative = self.noise_multiplier is not None or self.clip_norm is not None
        ways = {"std": self.std is not None, "noise_multiplier with clip_norm": relative, "snr": self.snr is not None}
        one_strength("gaussian_noise", ways)
        if relative and (self.noise_multiplier is None or self.clip_norm is None):
            missing = "clip_norm" if self.clip_norm is None else "noise_multiplier"
            msg = f"defence 'gaussian_noise' needs noise_multiplier and clip_norm together; add {missing}."
            raise BadSetting(msg)

    def _fixed_variance(self) -> float | None:
        if self.noise_multiplier is not None and self.clip_norm is not None:
            return (self.noise_multiplier * self.clip_norm) ** 2
        return None if self.std is None else self.std**2

    def _snr(self) -> float:
        return self.snr or 0.0

    def _draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)

    def _score(self, noise: Tensor, seen: Tensors, mean: Tensors, variance: Tensor | None, name: str) -> Tensor:
        if variance is None and isinstance(factors(mean, name), OuterSum):
            square, numel, none = inner(seen, seen, name), seen[name].numel(), torch.zeros_like(noise)
            if square <= MOST_POWER * noise * numel:
                return numel * log_normal(none, none, noise) - 0.5 * squared_distance(mean, seen, name, square) / noise
        return super()._score(noise, seen, mean, variance, name)

    def _log_density(self, noise: Tensor, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        return log_normal(seen, mean, noise if variance is None else variance + noise)
