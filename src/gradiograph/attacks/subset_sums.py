"""Unmixing: which B vectors are all rows of a matrix subset sums of?"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

CANDIDATES = 28
"""How many candidate summands are tried in every combination."""
PURE = (1e-6, 1e-4, 5e-3)
"""Shares of a vector's energy with the minority sign: the purer a vector, the sooner it is tried."""
PARALLEL = 1e-5
"""1 - cosine below which two vectors have one direction; two films' features are at about 0.03."""
SAME = 0.02
"""Distance below which two points are one, as a share of the longest."""


def find_summands(gradient: Tensor, scale: Tensor, count: int) -> tuple[Tensor, int]:
    """The summands r_b h_b of which the rows, divided by their scales, are subset sums.

    Args:
        gradient: (U, D), row j is scale_j times a sum of some summands.
        scale: (U,).
        count: B, the number of summands.

    Returns:
        (B, D), each of one sign up to noise; and how many of them are summands that explain the rows; the others are
        the sum of all.
    """
    points, basis, weight = _row_space(gradient, scale, count)
    candidates = _candidates(points, basis, weight)
    best, loss = None, float("inf")
    for chosen in _combinations(candidates, count):
        found = _misfit(chosen, points, weight)
        place = int(found.argmin())
        if float(found[place]) < loss:
            best, loss = chosen[place], float(found[place])
    if best is None:
        whole = (weight[:, None] * points).sum(dim=0, keepdim=True)
        kept = candidates[: count - 1]
        return torch.cat([kept, whole.expand(count - len(kept), -1)]) @ basis, len(kept)
    return _signed(best, points, weight) @ basis, count


def _row_space(gradient: Tensor, scale: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows over their scales as points (U, B) in an orthonormal basis (B, D), and how far each can be trusted."""
    work = gradient.double() if gradient.numel() < 1 << 22 else gradient
    values, vectors = torch.linalg.eigh((work @ work.T).double())
    left = vectors[:, -count:]
    size = values[-count:].clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    basis = ((left / size).to(work.dtype).T @ work).to(gradient.dtype)
    steady = scale.abs() > 0.05 * scale.abs().median()
    points = torch.where(steady[:, None], left * size / torch.where(steady, scale, 1.0)[:, None], 0.0).float()
    # The noise of a row is that of the gradient; dividing by a small scale makes it large.
    return points, basis, torch.where(steady, scale.abs(), 0.0) / scale.abs().sum()


def _candidates(points: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    """Centres of clusters of points, and differences between them: the purest in sign first, then the shortest."""
    centres = _clusters(points, weight)
    pairs = torch.cat([centres[i + 1 :] - centres[i] for i in range(len(centres))])
    pool = torch.cat([centres, pairs])
    pool = pool[pool.norm(dim=1) > SAME * pool.norm(dim=1).max()]
    sample = basis[:, :: max(1, basis.shape[1] // 16384)]
    impure = _minority(pool @ sample)
    # A sum of films of one class is of one sign too, but longer than each of them.
    bounds = (0.0, *PURE, 1.0)
    tiers = [pool[(low <= impure) & (impure < high)] for low, high in pairwise(bounds)]
    return torch.cat([_longest_of_each_direction(tier[: 8 * CANDIDATES]).flip(0) for tier in tiers])[:CANDIDATES]


def _clusters(points: Tensor, weight: Tensor) -> Tensor:
    """Greedy clusters: the weighted mean of all points near the heaviest point that is left."""
    reach = SAME * float(points.norm(dim=1).quantile(0.99))
    near = ((points[:, None] - points).norm(dim=2) < reach).to(points.dtype)
    left = weight.clone()
    centres: list[Tensor] = []
    while float(left.max()) > 0 and len(centres) < 2 * CANDIDATES:
        mass = near @ left
        place = int(mass.argmax())
        members = near[place] * left
        centres.append((members[:, None] * points).sum(dim=0) / members.sum())
        left = left * (1 - near[place])
    return torch.stack(centres)


def _minority(vectors: Tensor) -> Tensor:
    """The share of each vector's energy that has the minority sign: 0 for a vector of one sign."""
    negative = vectors.clamp_max(0).square().sum(dim=1) / vectors.square().sum(dim=1)
    return torch.minimum(negative, 1 - negative)


def _longest_of_each_direction(vectors: Tensor) -> Tensor:
    """Of vectors that are parallel up to sign the longest, in falling order of length.

    A unit whose mask changed within the round contributes a film in some of its steps: a fraction of the summand.
    """
    kept: list[Tensor] = []
    for vector in vectors[vectors.norm(dim=1).argsort(descending=True)]:
        if all(abs(float(F.cosine_similarity(vector, other, dim=0))) < 1 - PARALLEL for other in kept):
            kept.append(vector)
    return torch.stack(kept) if kept else vectors


def _combinations(candidates: Tensor, count: int, block: int = 2048) -> Iterator[Tensor]:
    """All choices of `count` candidates, (n, count, B) at a time."""
    chosen = list(combinations(range(len(candidates)), count))
    for start in range(0, len(chosen), block):
        yield candidates[torch.tensor(chosen[start : start + block])]


def _misfit(chosen: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """How badly the points are subset sums of each choice, up to the sign of each summand: (n,)."""
    singular = torch.linalg.svdvals(chosen)
    regular = singular[:, -1] > 1e-3 * singular[:, 0]
    safe = torch.where(regular[:, None, None], chosen, torch.eye(chosen.shape[1]).to(chosen))
    up, down = _off(safe, points, weight)
    return torch.where(regular, torch.minimum(up, down).sum(dim=1), torch.inf)


def _signed(chosen: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """The summands (B, B) with the sign with which the points contain them: a difference may have the other."""
    up, down = _off(chosen[None], points, weight)
    return torch.where((up <= down).T, chosen, -chosen)


def _off(chosen: Tensor, points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far the coefficients of each summand are from 0 and 1, and from 0 and -1: (n, B) each."""
    coefficients = torch.linalg.solve(chosen.transpose(1, 2), points.T.expand(len(chosen), -1, -1))
    up = (coefficients - coefficients.round().clamp(0, 1)).abs().clamp_max(1)
    down = (coefficients - coefficients.round().clamp(-1, 0)).abs().clamp_max(1)
    return (up * weight).sum(dim=2), (down * weight).sum(dim=2)
