"""Masks and summands of a two-class gradient: a row is its unit's scale times a sum over the images it fires for."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.hidden import quadratic
from gradiograph.attacks.mixture import Mixture
from gradiograph.attacks.scores import FLOOR, Scores
from gradiograph.attacks.vertices import generators

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.core.attack import Observation

LARGEST = 8
"""Largest batch for which every combination of firing images is tried for each unit."""
STRANGE = 4.0
"""A row whose misfit is this many times the median's is of a unit that switches within the round: it is left out."""
QUIET = 0.1
"""No row is believed to have less noise than this share of the median's."""
SMALLEST = 1e-30


def summands_of(scores: Scores, scale: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Masks (U, B) and summands (B, D) of which a gradient's scores are subset sums; None where too little is sure.

    Args:
        scores: Of the gradient's rows.
        scale: (U,), the difference of the head's two weights of each unit.
        generator: Draws the starts of the search.
    """
    size = scale.double()
    points = torch.where(size[:, None] == 0, torch.nan, scores.values / size[:, None])
    errors, count = scores.errors / size.abs(), scores.values.shape[1]
    corners = _only(points, errors) if count == 1 else generators(points, errors, count, generator)
    if corners is None:
        return None
    every = _all_masks(len(corners), corners)
    off = (scores.values[:, None] - size[:, None, None] * (every @ corners)).square().sum(dim=2)
    masks = every[off.argmin(dim=1)]
    return masks.to(scores.basis), corners.to(scores.basis) @ scores.basis


def seen_mixture(gradient: Tensor, scale: Tensor, summands: Tensor, steady: Tensor | None = None) -> Mixture:
    """The masks that fit best with these summands, then the best summands with these masks, in least squares.

    Args:
        gradient: (U, D), with noise of one size in each row.
        scale: (U,).
        summands: (B, D), to begin with.
        steady: (U,), 1.0 for the units that count, 0.0 for others; None counts all.
    """
    every = _all_masks(len(summands), gradient)
    squares = gradient.square().sum(dim=1)
    gram, along = summands @ summands.T, gradient @ summands.T
    cost = scale[:, None].square() * ((every @ gram) * every).sum(dim=1) - 2 * scale[:, None] * (along @ every.T)
    left, chosen = (squares[:, None] + cost).min(dim=1)
    usual = left[squares > 0].median()
    trusted = (left <= STRANGE * usual).to(gradient)
    if steady is not None:
        trusted = trusted * steady
    # One variance for each row: a quantiser's noise is as large as the row.
    weight = trusted * gradient.shape[1] / left.maximum(QUIET * usual).clamp_min(SMALLEST)
    fires = scale[:, None] * every[chosen]
    normal = (fires * weight[:, None]).T @ fires
    normal = normal + 1e-6 * normal.trace() * torch.eye(len(normal)).to(normal)
    summands = torch.linalg.solve(normal, (fires * weight[:, None]).T @ gradient)
    return _mixture(fires, summands, torch.linalg.inv(normal.double()).diagonal()[:, None].to(gradient))


def hidden_mixture(
    observation: Observation,
    layer: SeenLayer,
    scale: Tensor,
    masks: Tensor,
    summands: Tensor,
    doubts: Tensor,
    steady: Tensor | None = None,
) -> Mixture:
    """The same behind a channel that hides values: one Newton step of the likelihood, for the masks, then the summands.

    Args:
        observation: Its defence must be known.
        layer: The layer.
        scale: (U,).
        masks: (U, B), to begin with.
        summands: (B, D), to begin with.
        doubts: (B,), how far each of these may be off, as a share of its root mean square.
        steady: (U,); see `seen_mixture`.
    """
    fires = scale[:, None] * masks
    mean = fires @ summands
    energies = summands.square().mean(dim=1).clamp_min(SMALLEST).double()
    errors = doubts.double().square() * energies
    variance = fires.square() @ errors.to(fires)[:, None] + FLOOR * mean.square().mean()
    near = quadratic(observation, layer, mean, variance)
    slopes, precisions = near.rows(summands)
    every = _all_masks(len(summands), summands)
    change = scale[:, None, None] * (every - masks[:, None])
    cost = 0.5 * torch.einsum("uma,uab,umb->um", change, precisions, change) - torch.einsum(
        "ua,uma->um", slopes, change
    )
    now = scale[:, None] * every[cost.argmin(dim=1)]
    moved = near.moved((now - fires) @ summands)
    told = moved.weight.sum(dim=1)
    strange = moved.slope.square().sum(dim=1) / told.clamp_min(SMALLEST)
    trusted = (strange <= STRANGE * _median(strange, (told * variance.squeeze(1)) * now.any(dim=1))).to(summands)
    if steady is not None:
        trusted = trusted * steady
    slopes, precisions = moved.columns(now * trusted[:, None])
    known = precisions.double()
    step = torch.linalg.solve(known + torch.diag(1 / errors), slopes.double()[..., None]).squeeze(-1).T
    # What the likelihood says is no surer than the model, and nothing is less sure than a feature's usual size.
    variances = torch.linalg.inv(known + torch.diag(1 / energies)).diagonal(dim1=1, dim2=2) + errors
    return _mixture(now, summands + step.to(summands), variances.T.to(summands))


def _mixture(mixing: Tensor, summands: Tensor, variances: Tensor) -> Mixture:
    """With every feature's mean 1."""
    lengths = summands.mean(dim=1)
    lengths = torch.where(lengths == 0, 1.0, lengths)
    return Mixture(mixing * lengths, summands / lengths[:, None], lengths[:, None].square() / variances)


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """The value that has half of the weights below it."""
    order = values.argsort()
    below = weights[order].cumsum(dim=0)
    return values[order[int((below < 0.5 * below[-1]).sum())]]


def _only(points: Tensor, errors: Tensor) -> Tensor | None:
    """The one corner (1, 1) that is not zero, from points (n, 1): the weighted median."""
    sure = torch.isfinite(points.squeeze(1)) & torch.isfinite(errors) & (points.squeeze(1) != 0)
    if not bool(sure.any()):
        return None
    return _median(points[sure, 0], 1 / errors[sure].square())[None, None]


def _all_masks(count: int, like: Tensor) -> Tensor:
    return torch.tensor(list(product([0.0, 1.0], repeat=count))).to(like)
