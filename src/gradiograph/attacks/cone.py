"""Nonnegative unmixing: films' features as the extreme rays of a cone.

The row space of a dense layer's gradient is spanned by the layer's inputs h_b, one for each image, which are
nonnegative after a ReLU. Where every image has a feature that no other image has (one is enough), the nonnegative
vectors of that space are exactly the nonnegative sums of the h_b: a cone whose extreme rays are the images' features,
whatever the classes and residuals are. This is the separability of nonnegative matrix factorisation (Donoho and Stodden
2003; Arora et al. 2012, arXiv 1111.0952).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linprog

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

FIRST, WORST, PASSES = 2000, 400, 60
"""Constraints to begin with, those added in a pass, and passes of the cutting planes."""


def extreme_rays(basis: Tensor, tolerance: float, generator: torch.Generator) -> Tensor | None:
    """As many linearly independent extreme rays of the cone {c: c @ basis >= 0} as the basis has rows.

    Each ray maximises a linear function, orthogonal to the rays found before, over the cone's section of mean 1.

    Args:
        basis: (B, D), float64.
        tolerance: By how much a feature may be negative, in units of the ray's mean feature.
        generator: Draws the linear functions.

    Returns:
        (B, B) coordinates of the rays, each with mean feature 1; None where no vector is as nonnegative as that.
    """
    features = basis.numpy(force=True)
    size, mean = len(features), features.mean(axis=1)
    active = torch.randperm(features.shape[1], generator=generator)[:FIRST].numpy()
    found: list[Array] = []
    while len(found) < size:
        aim = torch.randn(size, generator=generator, dtype=torch.float64).numpy()
        if found:
            span = np.linalg.qr(np.stack(found, axis=1))[0]
            aim = aim - span @ (span.T @ aim)
        ends = []
        for sign in (1.0, -1.0):
            ray, active = _farthest(features, mean, sign * aim, tolerance, active)
            if ray is None:
                return None
            ends.append(ray)
        found.append(max(ends, key=lambda ray: abs(float(aim @ ray))))
    return torch.from_numpy(np.stack(found)).to(basis)


def sharpen(rays: Tensor, basis: Tensor, bounds: tuple[float, ...]) -> Tensor:
    """Rays that are as near as possible to zero where they are nearly zero: the noise averages over these features.

    Args:
        rays: (B, B) coordinates with mean feature 1.
        basis: (B, D).
        bounds: What counts as nearly zero, in turn.
    """
    mean = basis.mean(dim=1)
    sharper = []
    for start in rays:
        ray = start
        for bound in bounds:
            zeros = basis[:, (ray @ basis).abs() < bound]
            spread = zeros @ zeros.T
            spread = spread + 1e-12 * (spread.trace() + 1) * torch.eye(len(spread)).to(spread)
            ray = torch.linalg.solve(spread, mean)
            ray = ray / (mean @ ray)
        sharper.append(ray)
    return torch.stack(sharper)


def _farthest(
    features: Array, mean: Array, aim: Array, tolerance: float, active: NDArray[np.int64]
) -> tuple[Array | None, NDArray[np.int64]]:
    """The point of the section farthest along `aim`, by cutting planes, and the constraints that were looked at."""
    ray = None
    for _ in range(PASSES):
        answer = linprog(
            -aim,
            A_ub=-features[:, active].T,
            b_ub=np.full(len(active), tolerance),
            A_eq=mean[None],
            b_eq=[1.0],
            bounds=(None, None),
            method="highs",
        )
        if answer.status != 0:
            return None, active
        ray = np.asarray(answer.x)
        values = ray @ features
        below = np.flatnonzero(values < -tolerance * (1 + 1e-9) - 1e-9 * np.abs(values).max())
        if not len(below):
            return ray, active
        active = np.union1d(active, below[np.argsort(values[below])[:WORST]])
    return ray, active
