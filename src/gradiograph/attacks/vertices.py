"""Which vectors are summed where: the generators of a set of subset sums, from noisy points."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

STARTS = 60
"""Random choices of generators from which the exchange begins."""
CANDIDATES = 40
CAP = 16.0
"""Largest squared misfit of a point, in units of its error: units that switch within the round fit nowhere."""
HEAVY = 6.0
"""The units that fire for all count as at most this many points, so that they do not decide alone."""
WIDTH = 3.0
"""Points are one cluster within this many errors."""
FLAT = 2.0
"""Vectors that span less than this many errors in some direction are not told apart."""
SMALLEST_GAIN = 1e-6
POLISHES = 5
DENSE = 0.3
"""Least share of the points near the densest place for it to be one sum and not several."""
HALF = 2.5
"""Variance of a Gaussian over that of its half nearest to the centre, about, in two to four dimensions."""
BIASED = 0.02
"""Error that all points share, in units of the longest: of a basis that is not quite the true one."""


def generators(points: Tensor, errors: Tensor, count: int, generator: torch.Generator) -> Tensor | None:
    """Vectors t_1 .. t_B such that each point is near the sum of some of them.

    The points of a parallelepiped's corners tell its edges where enough corners are seen (blind separation of binary
    sources, after Talwar, Viberg and Paulraj 1996, doi 10.1109/78.506612). From random choices the generators are
    exchanged one at a time, for a point, for what a point lacks of the sum of all, where most lie, or for their own
    sums and differences, as long as the points fit better.

    Args:
        points: (n, B), float64.
        errors: (n,), standard deviation of each coordinate; what is infinite or too uncertain is left out.
        count: B.
        generator: Draws the starts.

    Returns:
        (B, B), a row each, in any order; None where too few points are certain.
    """
    points, errors = _certain(points, errors)
    if len(points) < count:
        return None
    round_ = _rounding(points, errors)
    points = points @ round_
    longest = points.norm(dim=1).quantile(0.9)
    errors = errors.clamp_min(1e-3 * float(longest))
    centres, every = _candidates(points, errors)
    offered = torch.cat([centres, every - centres])
    offered = offered[offered.norm(dim=1) > 0.1 * longest]
    if len(offered) < count:
        return None
    masks = torch.tensor(list(product([0.0, 1.0], repeat=count))).to(points)
    shares = 1 / (errors.square() * count + (BIASED * longest) ** 2)
    alike = (points - every).norm(dim=1) < WIDTH * count**0.5 * errors
    counted = torch.where(alike, (HEAVY / alike.sum()).clamp(max=1.0), 1.0)
    flat = FLAT * errors.median()

    def misfit(choices: Tensor) -> Tensor:
        off = torch.cdist(points.expand(len(choices), -1, -1), masks @ choices).square().amin(dim=2)
        total = ((off * shares).clamp(max=CAP) * counted).sum(dim=1)
        return torch.where(torch.linalg.svdvals(choices)[:, -1] < flat, torch.inf, total)

    found = []
    for _ in range(STARTS):
        start = offered[torch.randperm(len(offered), generator=generator)[:count]]
        found.append(_exchanged(start, offered, misfit))
    least, best = min(found, key=lambda entry: entry[0])
    if least == torch.inf:
        return None
    unrounded: Tensor = torch.linalg.inv(round_)
    return _polished(best, points, errors, masks, counted / errors.square()) @ unrounded


def _exchanged(choice: Tensor, offered: Tensor, misfit: Callable[[Tensor], Tensor]) -> tuple[float, Tensor]:
    """The choice (B, B) after exchanges of one vector at a time, and its misfit."""
    least, moved = float(misfit(choice[None])[0]), True
    while moved:
        moved = False
        for place in range(len(choice)):
            others = torch.cat([choice[:place], choice[place + 1 :]])
            trial = torch.cat([offered, choice[place] - others, choice[place] + others])
            choices = choice.repeat(len(trial), 1, 1)
            choices[:, place] = trial
            found = misfit(choices)
            best = int(found.argmin())
            if float(found[best]) < least - SMALLEST_GAIN:
                choice, least, moved = choices[best], float(found[best]), True
    return least, choice


def _polished(choice: Tensor, points: Tensor, errors: Tensor, masks: Tensor, weights: Tensor) -> Tensor:
    """The best generators (B, B) in least squares, each point at its nearest sum; what fits nowhere is left out."""
    for _ in range(POLISHES):
        off, nearest = torch.cdist(points, masks @ choice).min(dim=1)
        trusted = weights * ((off / errors) <= 3 * (off / errors).median())
        rows = masks[nearest] * trusted.sqrt()[:, None]
        if int(torch.linalg.matrix_rank(rows)) < len(choice):
            break
        choice = torch.linalg.lstsq(rows, points * trusted.sqrt()[:, None]).solution
    return choice


def _certain(points: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Those whose errors are small beside the longest, and which are not zero within them."""
    size = points.shape[1] ** 0.5
    sure = torch.isfinite(points).all(dim=1) & torch.isfinite(errors)
    points, errors = points[sure], errors[sure]
    if not len(points):
        return points, errors
    length = points.norm(dim=1)
    longest = length.quantile(0.9)
    seen = (errors * size < 0.25 * longest) & (length > 4 * errors * size + BIASED * longest)
    return points[seen], errors[seen]


def _rounding(points: Tensor, errors: Tensor) -> Tensor:
    """The matrix (B, B) that makes the densest cluster no wider in any direction than its errors say."""
    size, longest = points.shape[1] ** 0.5, points.norm(dim=1).quantile(0.9)
    together = torch.cdist(points, points) < WIDTH * size * _joint(errors) + BIASED * longest
    centre = points[together[together.sum(dim=1).argmax()]].median(dim=0).values
    off = ((points - centre) / errors[:, None])[(points - centre).norm(dim=1) < 0.15 * longest]
    if len(off) < DENSE * len(points):
        return torch.eye(points.shape[1]).to(points)
    # Half of them, the nearest, with the variance that such a half of a Gaussian has: units that switch lie off.
    nearest = off[off.norm(dim=1) <= off.norm(dim=1).median()]
    values, vectors = torch.linalg.eigh(HALF * nearest.T @ nearest / len(nearest))
    shrunk: Tensor = (vectors / values.clamp_min(1.0).sqrt()) @ vectors.T
    return shrunk


def _candidates(points: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Places (n, B) where points lie, the most certain ones first, and the place of the most."""
    width = WIDTH * points.shape[1] ** 0.5 * _joint(errors)
    together = torch.cdist(points, points) < width
    left = torch.ones_like(errors, dtype=torch.bool)
    centres: list[Tensor] = []
    counts: list[int] = []
    for point in errors.argsort().tolist():
        if not left[point] or len(centres) == CANDIDATES:
            continue
        members = together[point] & left & (errors <= 3 * errors[point])
        weight = errors[members] ** -2
        centres.append((points[members] * weight[:, None]).sum(dim=0) / weight.sum())
        counts.append(int(members.sum()))
        left &= ~together[point]
    return torch.stack(centres), centres[max(range(len(counts)), key=counts.__getitem__)]


def _joint(errors: Tensor) -> Tensor:
    return (errors[:, None].square() + errors.square()).sqrt()
