"""The sum of several clients' protected updates: what a server sees under secure aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.core.defence import Chain, Defence
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import log_exact, tolerances, variances
from gradiograph.defences.summation import summed

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class SummedChannel(Defence):
    """From the mean clean update of `clients` clients, each under a channel of its own, to the mean of what they sent.

    Not a component, and applied by no client: it is what the attacker knows of a sum. By the central limit theorem the
    mean is taken as Gaussian. Its expectation is that of one client whose clean update is the mean: exact for channels
    that are linear on average, as noise and unbiased rounding; an approximation for clipping, sparsification and signs,
    where it depends on each client's own update, which the sum does not show. Its variance is one client's, divided by
    their number; without one, `exact.TOLERANCE` stands in.

    Attributes:
        each: Every client's channel.
        clients: How many, at least 1.
    """

    each: Chain
    clients: int

    def expect(self, belief: Belief) -> Belief:
        """The belief about the mean of what was sent."""
        sent = self.each.expect(Belief(belief.mean, _times(belief.variance, self.clients)))
        return Belief(sent.mean, _times(sent.variance, 1 / self.clients))

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Gaussian log density of the mean that was seen."""
        sent, tolerance = self.expect(belief), tolerances(seen)
        spread = variances(sent)

        def score(value: Tensor, mean: Tensor, variance: Tensor | None, floor: Tensor) -> Tensor:
            return log_exact(value, mean, variance, floor)

        terms = [
            summed(score, seen[name], sent.mean[name], spread[name], tolerance[name].expand_as(seen[name]))
            for name in seen
        ]
        return torch.stack(terms).sum()


def _times(variance: Tensors | None, factor: float) -> Tensors | None:
    return None if variance is None else {name: factor * tensor for name, tensor in variance.items()}
