"""The rows of a noisy or partly hidden gradient of low rank, as points in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.hidden import Quadratic, quadratic

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.attacks.feature_space import FeatureSpace
    from gradiograph.core.attack import Observation

WEIGHINGS = 3
LOUD = 2048
"""Columns that are looked at of a gradient of which the channel hid much: those of which it showed most."""
EXPECTATIONS = 4
"""Steps of expectation and fit before the likelihood's own curvature is used."""
FLOOR = 3e-4
"""Smallest variance that a row is believed with, as a share of the mean square of what was seen."""
MODEL = (0.02, 0.002)
"""What a mixture within the space of public features leaves of a row, first and last, as a share of its energy."""
NOISE_RANGE = (1 / 3, 3.0)
"""Of a row, in units of the median: no row counts for much more or much less than others."""
ROW_STEPS = 2
"""Newton steps of the rows for each of the columns."""
TRUST = 0.5
"""How far a Newton step is believed to lead, as a share of what it changes."""
WIDE = 30.0
"""How much more energy than expected a row may have."""


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


def seen_scores(gradient: Tensor, count: int, space: FeatureSpace | None) -> Scores:
    """The leading directions of a gradient to which noise was added, each row weighted by its own noise.

    Args:
        gradient: (U, D).
        count: B.
        space: Where the directions lie; None is anywhere.
    """
    rows = (gradient if space is None else gradient @ space.basis.T).double()
    noise = torch.ones(len(rows), 1).to(rows)
    energy = rows.square().sum(dim=1, keepdim=True)
    for _ in range(WEIGHINGS):
        _, left = torch.linalg.eigh((rows / noise) @ (rows / noise).T)
        basis = torch.linalg.qr((rows / noise).T @ left[:, -count:]).Q.T
        values = rows @ basis.T
        rest = (energy - values.square().sum(dim=1, keepdim=True)).clamp_min(0) / (rows.shape[1] - count)
        noise = rest.sqrt().clamp_min(1e-3 * float(rest[energy > 0].median().sqrt()))
    basis = basis.to(gradient)
    return Scores(values, noise.squeeze(1), basis if space is None else basis @ space.basis)


def hidden_scores(
    observation: Observation, layer: SeenLayer, count: int, scale: Tensor, space: FeatureSpace, steps: int
) -> Scores:
    """The factors of rank B that a channel which hid values makes likely, from the columns that it showed most of.

    Expectation and fit in turn within the space (the posterior mean of an entry is mean + variance * d log p / d mean:
    Robbins 1956; Efron 2011, doi 10.1198/jasa.2011.tm11181), then Newton's steps for the rows, each by itself, and for
    all columns together within the space, with the space's energies as their prior. Films are alike, so that what tells
    them apart is a small part of each: it is found because each row is a measurement with thresholds of its own, and a
    column's value lies between them although most entries are hidden.

    Args:
        observation: Its defence must be known.
        layer: The layer.
        count: B.
        scale: (U,), how large each row is to be expected.
        space: Where the features lie.
        steps: Of Newton.
    """
    shown = _Shown.of(observation, layer, scale, space)
    values, basis = _expected(shown, count)
    for step in range(steps):
        share = MODEL[0] * (MODEL[1] / MODEL[0]) ** (step / max(1, steps - 1))
        for _ in range(ROW_STEPS):
            slope, precision = shown.of_rows(values, basis, share)
            trust = (TRUST**2 * values.square().sum(dim=1)).clamp_min(1e-4 * TRUST**2 * shown.energy.max())
            values = values + _solved(precision + torch.eye(count).to(basis) / trust[:, None, None], slope)
        near = shown.quadratic(values, basis, share)
        basis = shown.moved(basis, *near.columns(values))
        turned, turn = torch.linalg.qr(basis.T)
        values, basis = values @ turn.T, turned.T
    _, precision = shown.of_rows(values, basis, MODEL[1])
    errors = torch.linalg.inv(precision.double()).diagonal(dim1=1, dim2=2).mean(dim=1).sqrt()
    # Elsewhere the features are what the space says: basis = coefficients @ space.
    coefficients = torch.linalg.solve_triangular(shown.upper, shown.near @ basis.T, upper=True).T
    full = coefficients @ space.basis
    full[:, shown.columns] = basis
    return Scores(shown.in_place(values.double(), 0.0), shown.in_place(errors, torch.inf), full)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """The rows and columns that are looked at, and what is known of them before.

    Attributes:
        observation: What the server holds.
        layer: The layer.
        rows: (m,), those that differ between these columns; of others no direction is seen.
        columns: (n,).
        seen: (m, n), the gradient there.
        near: (K, n), orthonormal rows that span the space there.
        upper: (K, K): space[:, columns].T = near.T @ upper.
        tied: (K, K), float64, the prior's precision of a direction's coordinates along `near`.
        energy: (m,), of a row, expected from its scale.
    """

    observation: Observation
    layer: SeenLayer
    rows: Tensor
    columns: Tensor
    seen: Tensor
    near: Tensor
    upper: Tensor
    tied: Tensor
    energy: Tensor

    @classmethod
    def of(cls, observation: Observation, layer: SeenLayer, scale: Tensor, space: FeatureSpace) -> _Shown:
        whole = layer.gradient[layer.weight]
        columns = whole.square().sum(dim=0).argsort(descending=True)[:LOUD]
        columns = torch.unique(torch.cat([columns, whole.abs().amax(dim=0).argmax()[None]]))
        rows = (whole[:, columns] != whole[:, columns[:1]]).any(dim=1).nonzero().flatten()
        seen, scale = whole[rows][:, columns], scale[rows]
        near, upper = torch.linalg.qr(space.basis[:, columns].T)
        # A direction that tells films apart has no part in what all have, the strongest coordinate.
        spread = space.energy.double() / (space.energy.sum() - space.energy.max())
        covariance = (upper.double() * spread) @ upper.double().T
        covariance.diagonal().add_(1e-9 * covariance.trace())
        relative = (scale.square() / scale.square().mean()).clamp_min(FLOOR)
        return cls(
            observation=observation,
            layer=layer,
            rows=rows,
            columns=columns,
            seen=seen,
            near=near.T,
            upper=upper,
            tied=torch.linalg.inv(covariance),
            energy=seen.square().mean() * seen.shape[1] * relative,
        )

    def quadratic(self, values: Tensor, basis: Tensor, share: float) -> Quadratic:
        """The likelihood near values @ basis, of which a share of each row's energy is not to be explained."""
        left = share * values.square().sum(dim=1, keepdim=True) / len(self.columns)
        variance = left + FLOOR * self.seen.square().mean()
        return self.near_mean(values @ basis, variance)

    def near_mean(self, mean: Tensor, variance: Tensor) -> Quadratic:
        """The likelihood near a mean (m, n)."""
        return quadratic(self.observation, self.layer, mean, variance, (self.rows, self.columns))

    def in_place(self, values: Tensor, other: float) -> Tensor:
        """Values of the rows that are looked at among those of all U, where the others have one value."""
        whole = values.new_full((len(self.layer.gradient[self.layer.weight]), *values.shape[1:]), other)
        whole[self.rows] = values
        return whole

    def of_rows(self, values: Tensor, basis: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Slopes (m, B) and precisions (m, B, B) of the values, with their prior."""
        slope, precision = self.quadratic(values, basis, share).rows(basis)
        known = 1 / (WIDE * self.energy)
        return slope - known[:, None] * values, precision + known[:, None, None] * torch.eye(len(basis)).to(basis)

    def moved(self, basis: Tensor, slopes: Tensor, precisions: Tensor) -> Tensor:
        """The basis (B, n) after a Newton step within the space; slopes (n, B), precisions (n, B, B)."""
        count, size = len(basis), len(self.near)
        hessian = torch.empty(count, size, count, size, dtype=torch.float64)
        for a in range(count):
            for b in range(a, count):
                hessian[a, :, b] = hessian[b, :, a] = (self.near * precisions[:, a, b]).double() @ self.near.T.double()
            hessian[a, :, a] += self.tied + 0.1 * size / TRUST**2 * torch.eye(size)
        coordinates = (basis @ self.near.T).double()
        gradient = (slopes.T @ self.near.T).double() - coordinates @ self.tied
        step = torch.linalg.solve(hessian.reshape(count * size, -1), gradient.flatten()).reshape(count, size)
        found: Tensor = (coordinates + step).to(basis) @ self.near
        return found


def _expected(shown: _Shown, count: int) -> tuple[Tensor, Tensor]:
    """Values (m, B) and orthonormal basis (B, n) within the space, from nothing but each row's scale."""
    mean, power = torch.zeros_like(shown.seen), shown.seen.square().mean()
    variance = (shown.energy / shown.seen.shape[1])[:, None]
    for _ in range(EXPECTATIONS):
        near = shown.near_mean(mean, variance)
        filled = mean + variance * near.slope
        rows = filled @ shown.near.T
        noise = (filled - rows @ shown.near).square().mean(dim=1, keepdim=True).sqrt()
        weighted = rows / (noise / noise.median()).clamp(*NOISE_RANGE)
        _, vectors = torch.linalg.eigh((weighted.T @ weighted).double())
        basis = vectors[:, -count:].T.to(mean) @ shown.near
        mean = (filled @ basis.T) @ basis
        variance = (filled - mean).square().mean(dim=1, keepdim=True).clamp_min(FLOOR * power)
    return filled @ basis.T, basis


def _solved(precisions: Tensor, slopes: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(precisions.double(), slopes.double()[..., None]).squeeze(-1)
    return found.to(slopes)
