"""signSGD: one bit per value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi, sqrt
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.core.defence import Defence
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief
from gradiograph.defences.densities import log_excess, log_normal
from gradiograph.defences.exact import TOLERANCE, count, log_exact, straight_through, tolerances, variances

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.tensors import Tensors


@register(
    "defence", "sign_sgd", paper="Bernstein et al. 2018, arXiv 1802.04434; Karimireddy et al. 2019, arXiv 1901.09847"
)
@dataclass(frozen=True, kw_only=True)
class SignSGD(Defence):
    """Send only the sign of each value.

    Args:
        zero: What a value of exactly zero is sent as. With 0 three symbols cross the wire: two bits a value.
        scale: "none" sends -1 and 1; "mean_abs" multiplies the signs by the mean magnitude of their tensor, sent with
            them (Karimireddy et al., scaled sign).

    >>> SignSGD().on_update({"w": torch.tensor([0.3, 0.0, -2.0])}, torch.Generator())["w"]
    tensor([ 1.,  1., -1.])
    """

    zero: Literal[1, 0, -1] = 1
    scale: Literal["none", "mean_abs"] = "none"

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The signs, scaled or not; draws nothing."""
        return {name: self._signs(tensor) * self._size(tensor) for name, tensor in tensors.items()}

    def expect(self, belief: Belief) -> Belief:
        """The signs of the mean, exact without variance; the gradient goes straight through.

        With variance: mean and variance of a Gaussian's sign, exact; "mean_abs" takes the scale at its mean.
        """
        if belief.variance is None:
            sent = {name: self._signs(mean) * self._size(mean) for name, mean in belief.mean.items()}
            return Belief({name: straight_through(sent[name], mean) for name, mean in belief.mean.items()})
        means, spreads = {}, {}
        for name, mean in belief.mean.items():
            std = belief.variance[name].clamp_min(1e-30).sqrt()
            size = mean.new_ones(())
            if self.scale == "mean_abs":
                size = (mean.abs() + 2 * std * log_excess(mean.abs() / std).exp()).mean()
            side = torch.where(belief.variance[name] > 0, torch.erf(mean / (std * sqrt(2))), self._signs(mean))
            means[name] = size * side
            spreads[name] = size.square() * (1 - side.square()).clamp_min(0)
        return Belief(means, spreads)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log probability of the sides: a probit with variance.

        Without variance: the squared distance to the seen side, in units of 1 % of the candidate's root mean square
        (the sign does not know the scale), or with "mean_abs" of the scale. With "mean_abs" the scale is scored too;
        with variance as a Gaussian of the mean magnitude's moments given the signs: close where there are many values.
        """
        spread, tolerance = variances(belief), tolerances(seen)
        score = self._score_sides if belief.variance is None else self._score_probit
        terms = []
        for name, value in seen.items():
            if value.any():
                terms.append(score(value, belief.mean[name], spread[name]))
            else:  # only a tensor of zeros is sent as zeros
                terms.append(log_exact(value, belief.mean[name], spread[name], tolerance[name]).sum())
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """One bit a value, two if zero is sent as zero; 32 bits a tensor for its scale, if it has one.

        If zero is sent as a sign, the places that a sparsifier dropped are signs too: dense again.
        """
        overhead = encoding.overhead_bits + (32 * len(sent) if self.scale == "mean_abs" else 0)
        if self.zero == 0:
            return replace(encoding, value_bits=2, overhead_bits=overhead, block=None)
        encoding = replace(encoding, num_values=count(sent), value_bits=1, index_bits=0)
        return replace(encoding, overhead_bits=overhead, block=None)

    def _signs(self, tensor: Tensor) -> Tensor:
        signs = tensor.sign()
        return signs if self.zero == 0 else signs.masked_fill(tensor == 0, float(self.zero))

    def _size(self, tensor: Tensor) -> Tensor:
        mean_abs = tensor.abs().mean()
        return mean_abs if self.scale == "mean_abs" else torch.ones_like(mean_abs)

    def _score_sides(self, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        size = seen.abs().max()
        unit = size if self.scale == "mean_abs" else (mean.norm() / sqrt(mean.numel())).clamp_min(1e-12)
        outside = torch.where(seen == 0, mean.abs(), torch.relu(-seen.sign() * mean))
        score: Tensor = -0.5 * (outside / (TOLERANCE * unit)).square().sum()
        if self.scale == "mean_abs":
            score = score - 0.5 * ((mean.abs().mean() - size) / (TOLERANCE * size)) ** 2
        return score

    def _score_probit(self, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        reference = mean.detach().norm() / sqrt(mean.numel()) if self.scale == "none" else seen.abs().max()
        # Smaller than any real noise; it only keeps values without variance from an infinite slope.
        floor = (TOLERANCE * reference).square().clamp_min(1e-20)
        spread = floor.expand_as(mean) if variance is None else variance.maximum(floor)
        std = spread.sqrt()
        margin = seen.sign() * mean / std
        log_side: Tensor = torch.special.log_ndtr(margin)
        score: Tensor = torch.where(seen == 0, log_normal(seen, mean, spread), log_side).sum()
        if self.scale == "none":
            return score
        # |X| given its sign is a truncated Gaussian.
        hazard = torch.exp(-0.5 * margin**2 - 0.5 * log(2 * pi) - log_side)
        size_mean = (std * (margin + hazard)).mean()
        size_variance = (spread * (1 - hazard * (margin + hazard)).clamp_min(0)).mean() / mean.numel()
        return score + log_normal(reference, size_mean, size_variance + floor)
