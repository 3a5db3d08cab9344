"""What the client's channel hid: the clean update, expected from what was seen and a belief about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.likelihoods import seen_update
from gradiograph.attacks.mixture import row_space
from gradiograph.core.defence import Chain
from gradiograph.core.tensors import Belief

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation

FLOOR = 1e-4
"""Smallest variance of a row's belief, as a share of the mean square of all values."""


def expected_update(observation: Observation, name: str, mean: Tensor, variance: Tensor) -> Tensor:
    """E[u | v] of one tensor of the first round's clean update, believed N(mean, variance) before it was seen.

    The posterior mean of a Gaussian variable behind any channel is mean + variance * d log p(v) / d mean, with p the
    marginal likelihood (Robbins 1956; Efron 2011, doi 10.1198/jasa.2011.tm11181), which the channel computes: a
    quantiser's value moves to its cell, what a sparsifier dropped to within its bound, a sign's value to its side. The
    other tensors are believed to be as they were seen.

    Args:
        observation: Its defence must be known.
        name: The tensor.
        mean: Of its shape.
        variance: Broadcastable to it, positive.
    """
    defence = observation.defence
    if defence is None or defence == Chain():
        return seen_update(observation)[name]
    seen = seen_update(observation)
    spreads = {key: tensor.square().mean().clamp_min(1e-30).expand_as(tensor) for key, tensor in seen.items()}
    spread = variance.expand_as(mean)
    free = mean.detach().requires_grad_()
    with torch.enable_grad():
        score = defence.log_likelihood(seen, Belief({**seen, name: free}, {**spreads, name: spread}))
        (slope,) = torch.autograd.grad(score, free)
    return mean + spread * slope


def hides(observation: Observation, name: str, count: int) -> bool:
    """Whether the known channel changes the mean of this tensor: not noise or unbiased rounding alone.

    Judged at the B leading directions of what was seen, which no channel has made.
    """
    defence = observation.defence
    if defence is None or defence == Chain():
        return False
    seen = seen_update(observation)
    mean = low_rank(seen[name], count)
    sent = defence.expect(Belief({**seen, name: mean})).mean[name]
    return not torch.allclose(sent, mean, rtol=1e-4, atol=1e-6 * float(mean.abs().max()))


def completed(observation: Observation, name: str, count: int, scale: Tensor | None, times: int) -> Tensor:
    """The tensor (U, D) of rank B with what the channel hid filled in: expectation and rank-B fit in turn.

    Args:
        observation: Its defence must be known.
        name: The tensor.
        count: B.
        scale: (U,), how large each row is to be expected; None takes all alike.
        times: Fits.
    """
    seen = seen_update(observation)[name]
    rows = torch.ones(len(seen)).to(seen) if scale is None else scale.square()
    rows = rows * seen.square().mean() / rows.mean().clamp_min(1e-30)
    mean, variance = torch.zeros_like(seen), _floored(rows[:, None], seen)
    for _ in range(times):
        update = expected_update(observation, name, mean, variance)
        mean = low_rank(update, count)
        variance = _floored((update - mean).square().mean(dim=1, keepdim=True), update)
    return update


def low_rank(matrix: Tensor, count: int) -> Tensor:
    """The nearest matrix of rank B."""
    space = row_space(matrix, count)
    return space.left.to(matrix) @ space.basis.to(matrix)


def _floored(variance: Tensor, like: Tensor) -> Tensor:
    return variance.clamp_min(FLOOR * float(like.square().mean()) + torch.finfo(like.dtype).tiny)
