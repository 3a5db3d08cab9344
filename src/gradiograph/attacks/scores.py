"""The rows of a noisy or partly hidden gradient of low rank, as points in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.hidden import quadratic

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.core.attack import Observation

WEIGHINGS = 3
LOUD = 4096
"""Columns that are looked at of a gradient of which the channel hid much: those of which it showed most."""
EXPECTATIONS = 6
"""Steps of expectation and fit before the likelihood's own curvature is used."""
FLOOR = 3e-4
"""Smallest variance that a row is believed with, as a share of the mean square of what was seen."""
MODEL = (1e-2, 1e-3)
"""What a mixture leaves of a row, first and last, as a share of its energy."""
OUTSIDE = (0.03, 0.4)
"""What a feature is believed to have outside the space of public features, first and last, as a share of its length."""
NOISE_RANGE = (1 / 3, 3.0)
"""Of a row, in units of the median: no row counts for much more or much less than others."""
SETTLED = 4
"""Steps from the first to the last of OUTSIDE."""


@dataclass(frozen=True)
class Scores:
    """gradient = values @ basis + the rest.

    Attributes:
        values: (U, B), float64.
        errors: (U,), float64, standard deviation of each of a row's values.
        basis: (B, D).
    """

    values: Tensor
    errors: Tensor
    basis: Tensor


def seen_scores(gradient: Tensor, count: int, space: Tensor | None) -> Scores:
    """The leading directions of a gradient to which noise was added, each row weighted by its own noise.

    Args:
        gradient: (U, D).
        count: B.
        space: (K, D), orthonormal, where the directions lie; None is anywhere.
    """
    rows = (gradient if space is None else gradient @ space.T).double()
    noise = torch.ones(len(rows), 1).to(rows)
    energy = rows.square().sum(dim=1, keepdim=True)
    for _ in range(WEIGHINGS):
        _, left = torch.linalg.eigh((rows / noise) @ (rows / noise).T)
        basis = torch.linalg.qr((rows / noise).T @ left[:, -count:]).Q.T
        values = rows @ basis.T
        rest = (energy - values.square().sum(dim=1, keepdim=True)).clamp_min(0) / (rows.shape[1] - count)
        noise = rest.sqrt().clamp_min(1e-3 * float(rest[energy > 0].median().sqrt()))
    basis = basis.to(gradient)
    return Scores(values, noise.squeeze(1), basis if space is None else basis @ space)


def hidden_scores(
    observation: Observation, layer: SeenLayer, count: int, scale: Tensor, space: Tensor, steps: int
) -> Scores:
    """The factors of rank B that a channel which hid values makes likely, from the columns that it showed most of.

    Expectation and fit in turn within the space (the posterior mean of an entry is mean + variance * d log p / d mean:
    Robbins 1956; Efron 2011, doi 10.1198/jasa.2011.tm11181), then Newton's steps for rows and columns in turn, the
    columns free to leave the space. Each row is a measurement with thresholds of its own, so that a column's value is
    found between them although most entries are hidden.

    Args:
        observation: Its defence must be known.
        layer: The layer.
        count: B.
        scale: (U,), how large each row is to be expected.
        space: (K, D), where the features lie.
        steps: Of Newton.
    """
    whole = layer.gradient[layer.weight]
    shown = whole.square().sum(dim=0)
    columns = shown.argsort(descending=True)[:LOUD]
    columns = torch.unique(torch.cat([columns, whole.abs().amax(dim=0).argmax()[None]]))
    seen = whole[:, columns]
    upper = torch.linalg.qr(space[:, columns].T)
    near = upper.Q.T
    values, basis = _expected(observation, layer, count, scale, columns, near)
    power, wide = seen.square().mean(), seen.shape[1]
    prior = 3 * wide * power * (scale.square() / scale.square().mean()).clamp_min(FLOOR)
    eye = torch.eye(count).to(seen)

    def rows(values: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        variance = share * values.square().sum(dim=1, keepdim=True) / wide + FLOOR * power
        slope, precision = quadratic(observation, layer, values @ basis, variance, columns).rows(basis)
        return slope - values / prior[:, None], precision + eye / prior[:, None, None], variance

    for step in range(steps):
        share = MODEL[0] * (MODEL[1] / MODEL[0]) ** (step / max(1, steps - 1))
        outside = OUTSIDE[0] * (OUTSIDE[1] / OUTSIDE[0]) ** min(1.0, step / SETTLED)
        slope, precision, variance = rows(values, share)
        values = values + _solved(precision, slope)
        off = basis - basis @ near.T @ near
        slope, precision = quadratic(observation, layer, values @ basis, variance, columns).columns(values)
        pull = wide / outside**2
        basis = basis + _solved(precision + pull * eye, slope - pull * off.T).T
        turned, turn = torch.linalg.qr(basis.T)
        values, basis = values @ turn.T, turned.T
    _, precision, _ = rows(values, MODEL[1])
    errors = torch.linalg.inv(precision.double()).diagonal(dim1=1, dim2=2).mean(dim=1).sqrt()
    # Elsewhere the features are what the space says: basis = coefficients @ space.
    coefficients = torch.linalg.solve_triangular(upper.R, near @ basis.T, upper=True).T
    full = coefficients @ space
    full[:, columns] = basis
    return Scores(values.double(), errors, full)


def _expected(
    observation: Observation, layer: SeenLayer, count: int, scale: Tensor, columns: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """Values (U, B) and orthonormal basis (B, n) within the space near (K, n), from nothing but each row's scale."""
    seen = layer.gradient[layer.weight][:, columns]
    power = seen.square().mean()
    mean = torch.zeros_like(seen)
    variance = power * (scale.square() / scale.square().mean()).clamp_min(FLOOR)[:, None]
    for _ in range(EXPECTATIONS):
        filled = mean + variance * quadratic(observation, layer, mean, variance, columns).slope
        rows = filled @ near.T
        noise = (filled - rows @ near).square().mean(dim=1, keepdim=True).sqrt()
        weighted = rows / (noise / noise.median()).clamp(*NOISE_RANGE)
        _, vectors = torch.linalg.eigh((weighted.T @ weighted).double())
        basis = vectors[:, -count:].T.to(seen) @ near
        mean = (filled @ basis.T) @ basis
        variance = (filled - mean).square().mean(dim=1, keepdim=True).clamp_min(FLOOR * power)
    return filled @ basis.T, basis


def _solved(precisions: Tensor, slopes: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(precisions.double(), slopes.double()[..., None]).squeeze(-1)
    return found.to(slopes)
