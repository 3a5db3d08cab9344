"""How much of the mask was read back: the overlap with the one that the client trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradiograph.core.scoring import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mask_dice(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> Score:
    """The Dice of two masks, the mean over the structures that either shows; 1 where neither shows any.

    Args:
        guess: (B, *spatial), indices of structures; 0 is the background.
        truth: The same.

    >>> mask_dice(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 0, 0]])).values
    tensor([0.3333])
    """
    values = [_dice(one, other) for one, other in zip(guess, truth, strict=True)]
    return Score("mask_dice", "", True, torch.tensor(values))


def _dice(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    shown = np.union1d(guess, truth)
    overlaps = [2 * ((guess == k) & (truth == k)).sum() / ((guess == k).sum() + (truth == k).sum()) for k in shown if k]
    return float(np.mean(overlaps)) if overlaps else 1.0
