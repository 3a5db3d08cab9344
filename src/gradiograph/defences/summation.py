"""The sum of a score over many values, in pieces that are computed again for the gradient instead of being stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 2**16
"""Values in a piece: of tens of millions of values only so many have their intermediates in memory."""


def summed(
    score: Callable[..., Tensor], seen: Tensor, mean: Tensor, variance: Tensor | None, *others: Tensor
) -> Tensor:
    """The sum of score(seen, mean, variance, *others) over all values.

    Without variance the scores are cheap and are summed at once.

    Args:
        score: Acts value by value; scalars that it needs are bound into it.
        seen: Any shape.
        mean: Of that shape.
        variance: Of that shape, or None.
        others: Of that shape.

    Returns:
        A differentiable scalar.

    >>> from gradiograph.defences.densities import log_normal
    >>> summed(log_normal, torch.zeros(2), torch.zeros(2), torch.ones(2))
    tensor(-1.8379)
    """
    if variance is None or seen.numel() <= PIECE:
        return score(seen, mean, variance, *others).sum()

    def piece(*parts: Tensor) -> Tensor:
        return score(*parts).sum()

    pieces = zip(*(torch.split(tensor.reshape(-1), PIECE) for tensor in (seen, mean, variance, *others)), strict=True)
    sums = [checkpoint(piece, *parts, use_reentrant=False, preserve_rng_state=False) for parts in pieces]
    return torch.stack(sums).sum()
