"""Where a series of rows changes: a piecewise constant fit by dynamic programming."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

CERTAIN = 3.0
"""A change whose square is below this many times what noise would make of it is none."""
ROUNDING = 1e-10
"""A change whose square is below this share of the largest is none."""


def segments(rows: Tensor, most: int) -> list[slice]:
    """The runs of rows that are equal but for noise.

    The fit of least squares with `most` segments (Bellman 1961, doi 10.1145/366573.366611), from the Gram matrix of the
    rows in O(n^2 most) steps; then the weakest change is taken out, again and again, until each is larger than the
    noise left in the segments could make it, `CERTAIN` times over.

    Args:
        rows: (n, d), float64.
        most: Of segments, at least 1.

    Returns:
        Slices of the rows, in order and without gaps.

    >>> rows = torch.tensor([[0.0], [0.0], [2.0], [2.0], [5.0]], dtype=torch.float64)
    >>> [(part.start, part.stop) for part in segments(rows, 4)]
    [(0, 2), (2, 4), (4, 5)]
    """
    count, width = rows.shape
    gram = rows @ rows.T
    sums = torch.zeros(count + 1, count + 1).to(gram)
    sums[1:, 1:] = gram.cumsum(dim=0).cumsum(dim=1)
    squares = torch.cat([gram.new_zeros(1), gram.diagonal().cumsum(dim=0)])
    start, stop = torch.meshgrid(torch.arange(count + 1), torch.arange(count + 1), indexing="ij")
    blocks = sums.diagonal()[None] - sums - sums.T + sums.diagonal()[:, None]
    cost = squares[None] - squares[:, None] - blocks / (stop - start).clamp_min(1)
    cost = cost.clamp_min(0).masked_fill(stop <= start, torch.inf)
    ends = _best_ends(cost, min(most, count))
    return _certain(blocks, sums, cost, ends, width)


def _best_ends(cost: Tensor, parts: int) -> list[int]:
    """The ends of the cheapest division into this many segments, 0 first."""
    best, chosen = cost[0], []
    for _ in range(parts - 1):
        best, before = (best[:, None] + cost).min(dim=0)
        chosen.append(before)
    ends = [len(cost) - 1]
    for before in reversed(chosen):
        ends.append(int(before[ends[-1]]))
    return [0, *reversed(ends)]


def _certain(blocks: Tensor, sums: Tensor, cost: Tensor, ends: list[int], width: int) -> list[slice]:
    """Without the changes that noise can have made."""

    def change(place: int) -> tuple[float, float]:
        """The squared difference of the means on both sides of an end, and how much noise of 1 adds to it."""
        low, middle, high = ends[place - 1], ends[place], ends[place + 1]
        left, right = middle - low, high - middle
        across = sums[middle, high] - sums[middle, middle] - sums[low, high] + sums[low, middle]
        square = blocks[low, middle] / left**2 + blocks[middle, high] / right**2 - 2 * across / (left * right)
        return float(square), width * (1 / left + 1 / right)

    while len(ends) > 2:
        found = [change(place) for place in range(1, len(ends) - 1)]
        left = len(cost) - len(ends)
        within = sum(float(cost[low, high]) for low, high in pairwise(ends))
        noise = within / (width * left) if left > 0 else 0.0
        least = max(ROUNDING * max(square for square, _ in found), torch.finfo(torch.float64).tiny)
        doubt = [square / max(CERTAIN * noise * gain, least) for square, gain in found]
        weakest = min(range(len(doubt)), key=doubt.__getitem__)
        if doubt[weakest] > 1:
            break
        del ends[weakest + 1]
    return [slice(low, high) for low, high in pairwise(ends)]
