"""Clipping of the whole update's norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.defence import Defence, Encoding
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief, global_norm
from gradiograph.defences.exact import TOLERANCE, count, log_exact, tolerances, variances

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Tensors

_AT_THE_BOUND = 1 - 1e-4
"""An update whose norm is this share of the bound counts as clipped: single precision rounds the norm."""


@register("defence", "clip", paper="Abadi et al. 2016, arXiv 1607.00133")
@dataclass(frozen=True, kw_only=True)
class Clip(Defence):
    """Clip the whole update to an L2 norm of at most C: u * min(1, C / ||u||).

    The norm is over all tensors together. Below the bound nothing happened and the update is seen as it is; at the
    bound its direction is known, and of its length only that it was at least C.

    Args:
        norm: The bound C > 0, in the update's unit.

    Differs from the paper: clips one client's update, not the gradient of each example.

    >>> Clip(norm=1.0).on_update({"w": torch.tensor([3.0, 4.0])}, torch.Generator())["w"]
    tensor([0.6000, 0.8000])
    """

    norm: Annotated[float, Field(gt=0)]

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The update scaled by min(1, C / ||u||); draws nothing."""
        factor = self._factor(global_norm(tensors)).clamp_max(1.0)
        return {name: tensor * factor for name, tensor in tensors.items()}

    def expect(self, belief: Belief) -> Belief:
        """The mean clipped: exact without variance.

        With variance the norm is taken to be the root of its mean square, which is close where there are many values:
        the mean is scaled by min(1, C / that), the variance by its square.
        """
        return self._scaled(belief, self._factor(_expected_norm(belief)).clamp_max(1.0))

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Below the bound the log density of what was seen; at the bound, that of its direction.

        Without variance the direction is that of the mean scaled to the norm C. With variance the unknown length is
        integrated out (Laplace's method, close where there are many values). A norm short of C costs its squared
        distance to C in units of 1 % of C.
        """
        tolerance = tolerances(seen)
        if global_norm(seen) < _AT_THE_BOUND * self.norm:
            return _log_density(seen, belief, tolerance)
        length = _expected_norm(belief)
        short = -0.5 * (torch.relu(1 - length / self.norm) / TOLERANCE) ** 2
        scaled = self._scaled(belief, self._factor(length))
        if scaled.variance is None:
            return _log_density(seen, scaled, tolerance) + short
        return _log_direction_density(seen, scaled.mean, scaled.variance, tolerance) + short

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """Unchanged."""
        return encoding

    def _factor(self, length: Tensor) -> Tensor:
        return self.norm / length.clamp_min(1e-12 * self.norm)

    def _scaled(self, belief: Belief, factor: Tensor) -> Belief:
        mean = {name: tensor * factor for name, tensor in belief.mean.items()}
        if belief.variance is None:
            return Belief(mean)
        return Belief(mean, {name: tensor * factor.square() for name, tensor in belief.variance.items()})


def _log_density(seen: Tensors, belief: Belief, tolerance: Tensors) -> Tensor:
    spread = variances(belief)
    return torch.stack([log_exact(seen[n], belief.mean[n], spread[n], tolerance[n]).sum() for n in seen]).sum()


def _log_direction_density(seen: Tensors, mean: Tensors, variance: Tensors, tolerance: Tensors) -> Tensor:
    """Log of the integral over r of r^(d - 1) N(r seen; mean, variance): the length of what was clipped is unknown."""
    floored = {n: variance[n].maximum(tolerance[n].square()) for n in seen}
    own = torch.stack([(seen[n].square() / floored[n]).sum() for n in seen]).sum()
    along = torch.stack([(seen[n] * mean[n] / floored[n]).sum() for n in seen]).sum()
    free = count(seen) - 1
    root = torch.sqrt(along.square() + 4 * own * free)
    # The larger root of own r^2 - along r - free, in the form that does not cancel.
    peak = torch.where(along > 0, (along + root) / (2 * own), 2 * free / (root - along).clamp_min(1e-30))
    peak = peak.clamp_min(1e-6)
    density = torch.stack([log_exact(peak * seen[n], mean[n], floored[n], tolerance[n]).sum() for n in seen]).sum()
    return density + free * torch.log(peak) - 0.5 * torch.log(own + free / peak.square())


def _expected_norm(belief: Belief) -> Tensor:
    """The root of E||X||^2; the mean's norm without variance."""
    norm = global_norm(belief.mean)
    if belief.variance is None:
        return norm
    return torch.hypot(norm, torch.stack([v.sum() for v in belief.variance.values()]).sum().clamp_min(1e-30).sqrt())
