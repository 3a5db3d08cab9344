"""What the client's channel hid of a dense layer: its likelihood as a quadratic, entry by entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.likelihoods import seen_update
from gradiograph.core.defence import Chain
from gradiograph.core.tensors import Belief

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.core.attack import Observation

STEP = 0.3
"""Of the difference that measures the curvature, in standard deviations of the belief."""


@dataclass(frozen=True)
class Quadratic:
    """The log-likelihood of a layer's gradient near a mean: slope * change - weight * change^2 / 2, summed.

    Attributes:
        slope: (U, D).
        weight: (U, D), not negative.
    """

    slope: Tensor
    weight: Tensor

    def rows(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same for the factors of each row in features (B, D): slopes (U, B) and precisions (U, B, B)."""
        pairs = (features[:, None] * features).flatten(0, 1)
        return self.slope @ features.T, (self.weight @ pairs.T).reshape(-1, len(features), len(features))

    def columns(self, mixing: Tensor) -> tuple[Tensor, Tensor]:
        """The same for the factors of each column in mixing (U, B): slopes (D, B) and precisions (D, B, B)."""
        count = mixing.shape[1]
        pairs = (mixing[:, :, None] * mixing[:, None]).flatten(1)
        return self.slope.T @ mixing, (self.weight.T @ pairs).reshape(-1, count, count)

    def moved(self, change: Tensor) -> Quadratic:
        """The quadratic near the mean plus a change (U, D)."""
        return replace(self, slope=self.slope - self.weight * change)


def quadratic(
    observation: Observation,
    layer: SeenLayer,
    mean: Tensor,
    variance: Tensor,
    part: tuple[Tensor, Tensor] | None = None,
) -> Quadratic:
    """The likelihood of the first round's gradient of a layer, believed N(mean, variance) before it was seen.

    The other tensors are believed to be as they were seen. The curvature is a difference of two slopes: exact enough
    for channels that act on each entry by itself, and where it is negative it is taken as zero.

    Args:
        observation: Its defence must be known.
        layer: The layer.
        mean: Of its gradient, (U, D), or (m, n) for a part of it.
        variance: Broadcastable to it, positive.
        part: Which rows (m,) and columns (n,) are looked at; None is all. Of a tensor with a maximum or a threshold,
            those should hold it.
    """
    defence, name = observation.defence, layer.weight
    if defence is None:
        msg = "The channel's likelihood needs the defence."
        raise ValueError(msg)
    seen = seen_update(observation)
    spreads = {key: tensor.square().mean().clamp_min(1e-30).expand_as(tensor) for key, tensor in seen.items()}
    looked = seen if part is None else {**seen, name: seen[name][part[0]][:, part[1]]}
    spread = (variance * layer.scale**2).expand_as(mean).clamp_min(1e-30)

    def slope(at: Tensor) -> Tensor:
        free = at.detach().requires_grad_()
        with torch.enable_grad():
            score = defence.log_likelihood(looked, Belief({**looked, name: free}, {**spreads, name: spread}))
        return torch.autograd.grad(score, free)[0]

    at = layer.as_update(mean)
    step = STEP * spread.sqrt()
    here = slope(at)
    weight = ((here - slope(at + step)) / step).clamp_min(0)
    return Quadratic(here * layer.scale, weight * layer.scale**2)


def hidden_share(observation: Observation, name: str, mean: Tensor) -> float:
    """How far the known channel moves a tensor of the update from its mean, as a share of its norm.

    Zero for noise and for unbiased rounding, which only spread it; zero too for a channel that is not known.

    Args:
        observation: What the server holds.
        name: The tensor.
        mean: A clean update of its shape that no channel has made.
    """
    defence = observation.defence
    if defence is None or defence == Chain():
        return 0.0
    sent = defence.expect(Belief({**seen_update(observation), name: mean})).mean[name]
    return float((sent - mean).norm() / mean.norm().clamp_min(torch.finfo(mean.dtype).tiny))


def forgets_size(observation: Observation, name: str) -> bool:
    """Whether the known channel makes the same of an update twice as large, as signs without a scale do."""
    defence, seen = observation.defence, seen_update(observation)
    if defence is None or defence == Chain():
        return False
    once, twice = (defence.expect(Belief({key: k * value for key, value in seen.items()})) for k in (1.0, 2.0))
    return torch.equal(once.mean[name], twice.mean[name])
