"""Units that fire for one image alone: their row of a dense layer's gradient is that image's input to the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

QUIET = 1e-3
"""Rows shorter than this share of the longest are left out: their direction is rounding noise."""
FLAT = 1e-3
"""Sine of the angle to the span of others below which a direction is one of their mixtures."""
RANK = 1e-5
"""Singular values below this share of the largest are zero."""


def pure_rows(rows: Tensor, count: int, agreement: float) -> Tensor:
    """The directions that more than one row has, those of most rows first.

    Row j of the gradient of a dense layer [weight, bias] is sum_b delta_jb (x_b, 1). Two units that fire for image b
    alone have the direction (x_b, 1) both. Units that fire for several images mix them in shares of their own, because
    the slopes delta_jb depend on the unit: less so for images of one class early in the training, whose mixtures lie
    within about 1e-5 radians in some pairs of units. A direction in the span of those already found is left out as a
    mixture. For one common share, below a head with two outputs, see `subset_sums`.

    Args:
        rows: (U, D + 1).
        count: B, the number of images.
        agreement: The largest distance between rows of one direction, as unit vectors.

    Returns:
        (n, D + 1), n at most B, each a row of the matrix; n = 0 where the rows have a rank below B, because then all
        rows are mixtures.
    """
    loud = rows[rows.norm(dim=1) > QUIET * rows.norm(dim=1).max()]
    points = _directions(loud, count)
    near = torch.minimum(_distances(points, points), _distances(points, -points)) < agreement
    found: list[int] = []
    left = torch.ones(len(points), dtype=torch.bool, device=rows.device)
    while len(found) < count:
        mass = (near & left).sum(dim=1).where(left, 0)
        if len(mass) == 0 or int(mass.max()) < 2:
            break
        place = int(mass.argmax())
        if _sine(points[place], points[found]) > FLAT:
            found.append(int((loud.norm(dim=1) * (near[place] & left)).argmax()))
        left = left & ~near[place]
    return loud[found]


def _directions(rows: Tensor, count: int) -> Tensor:
    """The rows as unit vectors (U, B) in the space that they span; none where its dimension is below B."""
    units: Tensor = (rows / rows.norm(dim=1, keepdim=True)).double()
    values, vectors = torch.linalg.eigh(units @ units.T)
    if len(rows) < count or float(values[-count]) <= RANK**2 * float(values[-1]):
        return units[:0, :count]
    points = vectors[:, -count:] * values[-count:].sqrt()
    directions: Tensor = points / points.norm(dim=1, keepdim=True)
    return directions


def _distances(first: Tensor, second: Tensor) -> Tensor:
    distances: Tensor = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _sine(vector: Tensor, others: Tensor) -> float:
    """Of the angle between a unit vector (B,) and the span of others (n, B)."""
    basis, _ = torch.linalg.qr(others.T)
    return float((vector - basis @ (basis.T @ vector)).norm())
