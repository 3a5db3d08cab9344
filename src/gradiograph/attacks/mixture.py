"""Unmixing the gradient of a dense layer into one outer product for each image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
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
CLEAN = 0.05
"""Noise of the faintest direction, as a share of its length, up to which the cone alone is trusted."""
INDEPENDENT = 1e3
"""Largest condition number of features that belong to different films."""
ALL_MASKS = 8
"""Largest batch for which every combination of firing images is tried for each unit."""
SWEEPS = 40
SMALLEST = 1e-20
"""Keeps the normal equations regular where no unit fires at all."""


@dataclass(frozen=True)
class Mixture:
    """gradient = mixing @ features + noise.

    Attributes:
        mixing: (U, B), the slopes of the loss at the layer's outputs, by image.
        features: (B, D), the layer's inputs, each up to its length: mean 1.
        noise: Root mean square of what the mixture leaves of the gradient.
    """

    mixing: Tensor
    features: Tensor
    noise: float


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


def unmix(gradient: Tensor, count: int, scale: Tensor | None, generator: torch.Generator) -> Mixture | None:
    """One outer product for each image.

    Up to little noise the features are the extreme rays of the nonnegative cone. Under noise the rays only begin: with
    two classes the slopes of unit u are scale_u times the images' residuals where the unit fires and zero elsewhere, so
    that each row of the gradient, divided by its scale, is a subset sum; masks and features are fitted in turn, from
    several cones, and the best fit is kept.

    Args:
        gradient: (U, D).
        count: B.
        scale: (U,), the difference of the head's two weights of each unit, None where the head has another form.
        generator: Draws the cone's directions.

    Returns:
        None where the row space holds no nonnegative vectors at any tolerance.
    """
    space = row_space(gradient, count)
    cones = list(_cones(space.basis, generator))
    if not cones:
        return None
    if scale is None or count > ALL_MASKS or space.share < CLEAN:
        return _free(gradient, space, cones)
    fits = [fit_masks(gradient, scale, (rays @ space.basis).to(gradient)) for rays in cones]
    return min(fits, key=lambda mixture: mixture.noise)


def fit_masks(
    gradient: Tensor, scale: Tensor, features: Tensor, steady: Tensor | None = None, sweeps: int = SWEEPS
) -> Mixture:
    """Masks and features in turn, each the best in least squares given the other, from approximate features.

    Rows that fit much worse than most are units whose mask changed within the client's round; they are left out.

    Args:
        gradient: (U, D).
        scale: (U,).
        features: (B, D), to begin with.
        steady: (U,), 1.0 for the units that count, 0.0 for others; None counts all.
        sweeps: At most.
    """
    masks = torch.tensor(list(product([0.0, 1.0], repeat=len(features)))).to(gradient)
    summands = _levels(gradient, scale, features)[:, None] * features
    squares, chosen = gradient.square().sum(dim=1), None
    counted = torch.ones_like(scale) if steady is None else steady
    for _ in range(sweeps):
        gram, along = summands @ summands.T, gradient @ summands.T
        cost = scale[:, None].square() * ((masks @ gram) * masks).sum(dim=1) - 2 * scale[:, None] * (along @ masks.T)
        left, now = (squares[:, None] + cost).min(dim=1)
        trusted = counted * (left <= 4 * left[squares > 0].median())
        if chosen is not None and torch.equal(now, chosen):
            break
        chosen = now
        fires = scale[:, None] * masks[chosen]
        normal = (fires * trusted[:, None]).T @ fires
        normal = normal + (1e-6 * normal.trace() + SMALLEST) * torch.eye(len(normal)).to(normal)
        summands = torch.linalg.solve(normal, (fires * trusted[:, None]).T @ gradient)
    lengths = summands.mean(dim=1)
    lengths = torch.where(lengths == 0, 1.0, lengths)
    noise = float((left * trusted).sum() / trusted.sum() / gradient.shape[1])
    return Mixture(scale[:, None] * masks[now] * lengths, summands / lengths[:, None], max(noise, 0.0) ** 0.5)


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


def _free(gradient: Tensor, space: RowSpace, cones: list[Tensor]) -> Mixture:
    """The sharpened cone with the most zeros: sums and differences of films have fewer than films.

    Sharpening may draw two rays to one film; such cones are left out.
    """
    sharp = [sharpen(rays, space.basis, (bound, 0.03, 0.01, 0.01)) for rays in cones for bound in (0.03, 0.1)]
    independent = [each for each in sharp if float(torch.linalg.cond(each @ space.basis)) < INDEPENDENT] or cones
    rays = max(independent, key=lambda each: int(((each @ space.basis).abs() < 0.01).sum()))
    mixing = torch.linalg.solve(rays, space.left, left=False)
    return Mixture(mixing.to(gradient), (rays @ space.basis).to(gradient), space.noise)


def _levels(gradient: Tensor, scale: Tensor, features: Tensor) -> Tensor:
    """For each image the level (B,) nearest to which, or to zero, its slopes over the units' scales lie."""
    slopes = torch.linalg.solve(features @ features.T, gradient @ features.T, left=False)
    weight = scale.square()
    levels = []
    for slope in slopes.T:
        ratio = torch.where(scale == 0, 0.0, slope / torch.where(scale == 0, 1.0, scale))
        steady = ratio[scale.abs() > scale.abs().median()]
        tried = steady[steady.abs() > 0.1 * steady.abs().quantile(0.95)]
        off = torch.minimum(ratio.square(), (ratio - tried[:, None]).square())
        levels.append(tried[(weight * off).sum(dim=1).argmin()] if len(tried) else ratio.new_zeros(()))
    return torch.stack(levels)
