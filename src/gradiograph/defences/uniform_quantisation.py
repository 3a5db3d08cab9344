"""Deterministic uniform quantisation of each tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.defence import Defence
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import log_exact, log_within, straight_through, tolerances, variances
from gradiograph.defences.exceedance import expected_maximum
from gradiograph.defences.rounding import rounded_moments
from gradiograph.defences.summation import summed

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.tensors import Tensors


@register("defence", "uniform_quantisation", paper="Jacob et al. 2018, arXiv 1712.05877 (symmetric, per tensor)")
@dataclass(frozen=True, kw_only=True)
class UniformQuantisation(Defence):
    """Round every value to the nearest of 2^bits - 1 evenly spaced levels between -max|u| and max|u| of its tensor.

    With L = 2^(bits - 1) - 1 and the step max|u| / L, the levels are -L .. L times the step; ties go to the even level.
    The maximum is sent with the levels, so the server knows it: the largest magnitude that it sees.

    Args:
        bits: Bits of a value, 2 to 16.

    >>> UniformQuantisation(bits=2).on_update({"w": torch.tensor([1.0, 0.2, -0.7])}, torch.Generator())["w"]
    tensor([ 1.,  0., -1.])
    """

    bits: Annotated[int, Field(ge=2, le=16)]

    @property
    def _levels(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The tensors rounded to their levels; draws nothing."""
        return {name: self._round(tensor) for name, tensor in tensors.items()}

    def expect(self, belief: Belief) -> Belief:
        """The rounded mean, exact without variance; the gradient goes straight through.

        With variance: mean and variance of the rounded Gaussian (to 1 % of a step), the tensor's maximum taken to be
        the median of the belief's.
        """
        if belief.variance is None:
            return Belief({name: straight_through(self._round(mean), mean) for name, mean in belief.mean.items()})
        means, spreads = {}, {}
        for name, mean in belief.mean.items():
            variance = belief.variance[name]
            step = (expected_maximum(mean.reshape(1, -1), variance.reshape(1, -1)) / self._levels).clamp_min(1e-15)
            centre, spread = rounded_moments(mean.detach() / step, variance.detach() / step.square())
            centre = centre.clamp(-self._levels, self._levels)
            means[name] = straight_through((centre * step).view_as(mean), mean)
            spreads[name] = straight_through((spread * step.square()).view_as(mean), variance)
        return Belief(means, spreads)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log probability of the cells, those at the ends closed by the maximum.

        Without variance: the squared distance to the cell in units of the tolerance. That one value lies exactly at the
        maximum is not used: the server does not know which.
        """
        spread, tolerance = variances(belief), tolerances(seen)
        terms = [
            summed(partial(self._score, seen[n].abs().max(), tolerance[n]), seen[n], belief.mean[n], spread[n])
            for n in seen
        ]
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """`bits` a value, and 32 bits a tensor for its maximum."""
        overhead = encoding.overhead_bits + 32 * len(sent)
        return replace(encoding, value_bits=self.bits, overhead_bits=overhead, block=None)

    def _round(self, tensor: Tensor) -> Tensor:
        step = tensor.abs().max() / self._levels
        step = torch.where(step > 0, step, torch.ones_like(step))
        return torch.round(tensor / step).clamp(-self._levels, self._levels) * step

    def _score(self, maximum: Tensor, tolerance: Tensor, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        if maximum == 0:
            return log_exact(seen, mean, variance, tolerance)
        half = maximum / self._levels / 2
        # A hair of slack at the ends: the maximum itself went through a division and a product.
        edge = maximum * (1 + 1e-6)
        return log_within((seen - half).maximum(-edge), (seen + half).minimum(edge), mean, variance, tolerance)
