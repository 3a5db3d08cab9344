"""A linear prior on masks: principal components of the log odds of public ones, as `eigen` has them of films."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from gradiograph.attacks.eigen import EigenPrior, fit_eigen

if TYPE_CHECKING:
    from torch import Tensor

COMPONENTS = 40
"""At most: masks are simpler than films."""
FLOOR = 0.02
"""Added to the shares of the structures, so that their log odds are finite."""


def fit_masks(masks: Tensor, structures: int) -> EigenPrior:
    """The principal components of the log odds of each structure against the background, in masks blurred by 3 x 3.

    Args:
        masks: int64 (N, H, W), N at least 2.
        structures: K, the background included.

    Returns:
        A prior on "images" (K - 1, H, W) of log odds; see `probabilities`.
    """
    shares = F.one_hot(masks, structures).movedim(-1, 1).float()
    odds = (F.avg_pool2d(F.pad(shares, (1, 1, 1, 1), mode="replicate"), 3, stride=1) + FLOOR).log()
    odds = odds[:, 1:] - odds[:, :1]
    return fit_eigen(odds, min(COMPONENTS, len(odds) - 1))


def probabilities(prior: EigenPrior, latent: Tensor) -> Tensor:
    """Whitened latent (B, J) -> the structures' probabilities (B, K, H, W), differentiably."""
    odds = prior.images(latent)
    return torch.cat([torch.zeros_like(odds[:, :1]), odds], dim=1).softmax(dim=1)
