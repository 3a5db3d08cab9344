"""Deterministic channels: scoring of a value that is known exactly or up to a cell, and their gradient.

A deterministic channel has no density: a candidate that is off by one part in a million is impossible. To search at
all, an attacker needs a slope, so a belief without variance is scored as if it were off by a **tolerance**: 1 % of the
root mean square of the tensor that was seen. A belief with a variance uses that variance, floored at the tolerance's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradiograph.core.factored import inner
from gradiograph.defences.densities import log_interval, log_normal

if TYPE_CHECKING:
    from gradiograph.core.tensors import Belief, Tensors

TOLERANCE = 0.01
"""The tolerance as a share of a tensor's root mean square."""


def mean_square(tensors: Tensors) -> Tensor:
    """The mean of the squares over all values of all tensors: a scalar.

    >>> mean_square({"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([5.0])})
    tensor(16.6667)
    """
    total = torch.stack([inner(tensors, tensors, name) for name in tensors]).sum()
    return total / count(tensors)


def count(tensors: Tensors) -> int:
    """The number of values in all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())


def tolerances(seen: Tensors) -> dict[str, Tensor]:
    """1 % of each tensor's root mean square: a positive scalar by name.

    A tensor of zeros has no scale of its own and takes the whole update's; where that is zero too, the tolerance is 1.

    >>> tolerances({"a": torch.tensor([3.0, -3.0]), "b": torch.zeros(2)})
    {'a': tensor(0.0300), 'b': tensor(0.0212)}
    """
    whole = TOLERANCE * mean_square(seen).sqrt()
    whole = torch.where(whole > 0, whole, torch.ones_like(whole))
    own = {name: TOLERANCE * tensor.square().mean().sqrt() for name, tensor in seen.items()}
    return {name: torch.where(value > 0, value, whole).detach() for name, value in own.items()}


def log_exact(seen: Tensor, mean: Tensor, variance: Tensor | None, tolerance: Tensor) -> Tensor:
    """Log density of each value that was seen as it is.

    Args:
        seen: Any shape.
        mean: The belief's mean, of that shape.
        variance: The belief's variance, of that shape, or None.
        tolerance: The standard deviation that stands in for none, and the smallest one used.

    Returns:
        Of that shape.
    """
    floor = tolerance.square()
    return log_normal(seen, mean, floor if variance is None else variance.maximum(floor))


def log_within(lower: Tensor, upper: Tensor, mean: Tensor, variance: Tensor | None, tolerance: Tensor) -> Tensor:
    """Log probability that each value lies in its cell; without variance the squared distance to it, in tolerances.

    Args:
        lower: Lower ends of the cells, any shape.
        upper: Upper ends, above the lower ones.
        mean: The belief's mean, of that shape.
        variance: The belief's variance, of that shape, or None.
        tolerance: The unit of distance, and the smallest standard deviation used.

    Returns:
        Of that shape.
    """
    if variance is None:
        outside = torch.relu(lower - mean) + torch.relu(mean - upper)
        return -0.5 * (outside / tolerance) ** 2
    return log_interval(lower, upper, mean, variance.maximum(tolerance.square()).sqrt())


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Exactly `value` forward, the gradient of `surrogate` backward (Bengio et al. 2013, arXiv 1308.3432)."""
    return value.detach() + (surrogate - surrogate.detach())


def variances(belief: Belief) -> dict[str, Tensor | None]:
    """The belief's variance by name, None where it has none."""
    return {name: None if belief.variance is None else belief.variance[name] for name in belief.mean}
