"""Random augmentation of films, drawn by the client and unknown to the server."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

Augmentation = Literal["flip", "shift", "rotate"]

MAX_SHIFT = 0.05
"""Largest shift along each axis, as a share of the image's side."""
MAX_ROTATION = 10.0
"""Largest rotation, in degrees."""


def augment(images: Tensor, kinds: Collection[Augmentation], generator: torch.Generator) -> Tensor:
    """Flip, shift and rotate each image at random, in one bilinear resampling; borders repeat.

    Args:
        images: (B, C, H, W).
        kinds: Which of "flip" (left-right, probability one half), "shift" and "rotate" are drawn.
        generator: The client's randomness; all three are drawn always, so that one never shifts another's stream.
    """
    draws = torch.rand(len(images), 4, generator=generator) * 2 - 1
    mirror = torch.where((draws[:, 0] > 0) & ("flip" in kinds), -1.0, 1.0)
    angle = draws[:, 1] * (MAX_ROTATION * pi / 180) * ("rotate" in kinds)
    shift = draws[:, 2:] * (2 * MAX_SHIFT) * ("shift" in kinds)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
