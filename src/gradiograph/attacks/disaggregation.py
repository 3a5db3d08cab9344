"""Which of the sparse directions are the films': those whose inputs switch ReLU as the zeros of the slopes say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.sparse_columns import LOOSE, ZERO, independent

if TYPE_CHECKING:
    from torch import Tensor

UNITS = 512
"""How many of the layer's units an exchange is judged on, at most."""
BETTER = 1e-4
"""An exchange is made if it raises the mean match by this much."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The gradient of a dense layer of m units on n inputs as L R, of rank B, and what tells the films apart in it.

    Attributes:
        left: L (m, B), float64.
        right: R (B, n), orthonormal rows.
        noise: Standard deviation of an entry of L.
        lifted: R W^T (B, m): what the units make of R.
        weights: (B,) with L weights = dL/db, None without a bias.
        offset: The bias (m,), zeros without one.
    """

    left: Tensor
    right: Tensor
    noise: float
    lifted: Tensor
    weights: Tensor | None
    offset: Tensor


@dataclass(frozen=True, kw_only=True)
class Disaggregation:
    """The films' inputs and slopes, as far as they were found.

    Attributes:
        inputs: (B, n), X^T; without a bias each up to its length.
        slopes: (B, m), the rows of (dL/dZ)^T, so that slopes^T inputs is the gradient.
        match: (B,), the share of the layer's units that the input switches on and off as the zeros of its slope say.
    """

    inputs: Tensor
    slopes: Tensor
    match: Tensor


def disaggregate(factors: Factors, candidates: Tensor, *, exchange: bool) -> Disaggregation:
    """Choose B independent directions (Dimitrov et al. 2024, arXiv 2403.03945, sections 3.3 and 3.4).

    The sparsest independent candidates are taken. Where they span less than B dimensions, the missing directions are
    any that are orthogonal to them, with match 0.

    Args:
        factors: Of the gradient.
        candidates: (P, B) unit vectors, the sparsest first.
        exchange: Exchange single directions for other candidates while the match rises.
    """
    chosen = independent(candidates)
    known = len(chosen)
    pool = torch.cat([candidates, _complement(candidates[chosen])])
    chosen += range(len(candidates), len(pool))
    level = (pool @ factors.left.T).abs() / factors.noise
    match, scaled = _switches(factors, pool[chosen][None], level[chosen][None])
    while exchange and known == len(chosen) and float(match.mean()) < 1 - BETTER:
        tried = _exchange(factors, pool, level, chosen)
        other, scaled_other = _switches(factors, pool[tried][None], level[tried][None])
        if float(other.mean()) < float(match.mean()) + BETTER:
            break
        chosen, match, scaled = tried, other, scaled_other
    match = match[0].clone()
    match[known:] = 0
    return Disaggregation(
        inputs=scaled[0] @ factors.right, slopes=torch.linalg.inv(scaled[0]).T @ factors.left.T, match=match
    )


def _complement(vectors: Tensor) -> Tensor:
    """An orthonormal basis of what is orthogonal to k independent vectors (k, B): (B - k, B)."""
    basis: Tensor = torch.linalg.qr(vectors.T, mode="complete")[0]
    return basis.T[len(vectors) :]


def _exchange(factors: Factors, pool: Tensor, level: Tensor, chosen: list[int]) -> list[int]:
    """The choice with the best match among those that differ from this one in one direction."""
    some = slice(None, None, 1 + len(factors.left) // UNITS)
    part, heights = replace(factors, lifted=factors.lifted[:, some], offset=factors.offset[some]), level[:, some]
    best, found = -1.0, chosen
    others = [place for place in range(len(pool)) if place not in chosen]
    for place in range(len(chosen) if others else 0):
        tried = torch.tensor(chosen).repeat(len(others), 1)
        tried[:, place] = torch.tensor(others)
        match = _switches(part, pool[tried], heights[tried])[0].mean(dim=1)
        if float(match.max()) > best:
            best, found = float(match.max()), tried[int(match.argmax())].tolist()
    return found


def _switches(factors: Factors, directions: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """How well N choices of directions (N, B, B) agree with ReLU, given |L q| over the noise (N, B, m) for each.

    A unit is off below `ZERO` and on above `LOOSE` times that; what lies between is not counted.

    Returns:
        The match (N, B), and Q^-1 (N, B, B), scaled so that the inputs are Q^-1 R; match 0 where Q is singular.
    """
    active, clear = level > ZERO, (level <= ZERO) | (level > LOOSE * ZERO)
    inverse, info = torch.linalg.inv_ex(directions.transpose(1, 2))
    if factors.weights is not None:
        # Q diag(s) 1 = weights
        inverse = inverse / (inverse @ factors.weights)[:, :, None]
    drive = inverse @ factors.lifted
    match = _share((drive + factors.offset > 0) == active, clear)
    if factors.weights is None:
        opposite = _share((drive < 0) == active, clear)
        inverse = torch.where(opposite > match, -1.0, 1.0)[:, :, None] * inverse
        match = torch.maximum(match, opposite)
    valid = (info == 0)[:, None] & inverse.isfinite().all(dim=2)
    return torch.where(valid, match, 0.0), inverse


def _share(agrees: Tensor, counted: Tensor) -> Tensor:
    """The share of the counted units that agree: (N, B, m) -> (N, B)."""
    return (agrees & counted).sum(dim=2) / counted.sum(dim=2).clamp_min(1).double()
