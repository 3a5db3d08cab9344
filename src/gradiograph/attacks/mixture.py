"""Unmixing the gradient of a dense layer into one outer product for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.cone import extreme_rays, sharpen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

LADDER = (0.003, 0.01, 0.03, 0.1, 0.3, 0.8, 2.0, 5.0)
"""Tolerances of the cone, in units of the mean feature."""
TRIES = 5
"""Tolerances that are tried from the smallest at which the cone is not empty."""
INDEPENDENT = 1e3
"""Largest condition number of features that belong to different films."""


@dataclass(frozen=True)
class Mixture:
    """gradient = mixing @ features + noise.

    Attributes:
        mixing: (U, B), the slopes of the loss at the layer's outputs, by image.
        features: (B, D), the layer's inputs, each up to its length: mean 1.
        precision: (B, 1) for every column, or (B, D), the inverse variance of the features' errors; None where there
            is next to no noise.
    """

    mixing: Tensor
    features: Tensor
    precision: Tensor | None = None

    def is_sound(self) -> bool:
        """Whether every image has features and slopes, and all are finite."""
        values = self.features.abs().sum(dim=1) * self.mixing.abs().sum(dim=0)
        return bool((torch.isfinite(values) & (values > 0)).all())


@dataclass(frozen=True)
class RowSpace:
    """The B leading directions of a gradient (U, D).

    Attributes:
        left: (U, B), orthonormal columns times the singular values.
        basis: (B, D), orthonormal rows, faintest first, float64.
        noise: Root mean square of the rest.
        share: The noise along the faintest direction as a share of it.
    """

    left: Tensor
    basis: Tensor
    noise: float
    share: float


def row_space(gradient: Tensor, count: int) -> RowSpace:
    """The leading directions, from the Gram matrix of the rows."""
    values, vectors = torch.linalg.eigh((gradient @ gradient.T).double())
    sizes = values[-count:].clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    left = vectors[:, -count:]
    basis = ((left / sizes).to(gradient).T @ gradient).double()
    rest = values[:-count].clamp_min(0)
    noise = float((rest.mean() / gradient.shape[1]).sqrt()) if len(rest) else 0.0
    return RowSpace(left * sizes, basis, noise, noise * gradient.shape[1] ** 0.5 / float(sizes[0]))


def unmix(gradient: Tensor, count: int, generator: torch.Generator) -> Mixture | None:
    """One outer product for each image: up to little noise the features are the nonnegative cone's extreme rays.

    Of several cones, sharpened, that with the most zeros is taken: sums and differences of films have fewer than films.

    Args:
        gradient: (U, D).
        count: B.
        generator: Draws the cone's directions.

    Returns:
        None where there are fewer directions than images, or the row space holds no nonnegative vectors at any
        tolerance.
    """
    space = row_space(gradient, count)
    if len(space.basis) < count or not bool(space.basis.isfinite().all()):
        return None
    cones = list(_cones(space.basis, generator))
    if not cones:
        return None
    sharp = [sharpen(rays, space.basis, (bound, 0.03, 0.01, 0.01)) for rays in cones for bound in (0.03, 0.1)]
    # Sharpening may draw two rays to one film; such cones are left out.
    independent = [each for each in sharp if float(torch.linalg.cond(each @ space.basis)) < INDEPENDENT] or cones
    rays = max(independent, key=lambda each: int(((each @ space.basis).abs() < 0.01).sum()))
    mixing = torch.linalg.solve(rays, space.left, left=False)
    return Mixture(mixing.to(gradient), (rays @ space.basis).to(gradient))


def _cones(basis: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """The rays of the cones from the smallest tolerance on at which there are any."""
    found = 0
    for tolerance in LADDER:
        rays = extreme_rays(basis, tolerance, generator)
        if rays is not None:
            found += 1
            yield rays
        if found == TRIES:
            return
