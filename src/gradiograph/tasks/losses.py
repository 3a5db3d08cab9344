"""The losses that tasks train with, one value per example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.task import Loss

SegmentationLoss = Literal["cross_entropy", "dice", "dice_cross_entropy", "batch_dice"]
SMOOTH = 1.0
"""Pixels that are added above and below the Dice ratio, so that a structure that is not there is no 0 / 0."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy of each example, in nats; differentiable in the outputs and in targets that are probabilities.

    Args:
        outputs: Logits (B, K) or (B, K, *spatial).
        targets: int64 (B, *spatial) in [0, K), or probabilities of the outputs' shape that add up to 1 over K.

    Returns:
        (B,), each at least 0; of masks the mean over the pixels.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1]))
    tensor([0.6931])
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
    tensor([0.6931])
    """
    found = F.cross_entropy(outputs, targets, reduction="none")
    return found if found.ndim == 1 else found.flatten(1).mean(dim=1)


def dice(outputs: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft Dice of each example, the mean over the structures without the background.

    Milletari et al. 2016, arXiv 1606.04797, with plain sums below the line as in MONAI's `DiceLoss`.

    Args:
        outputs: Logits (B, K, *spatial).
        targets: int64 (B, *spatial) in [0, K), or probabilities (B, K, *spatial).

    Returns:
        (B,) in [0, 1].

    >>> import torch
    >>> certain = torch.tensor([[[50.0, -50.0]], [[-50.0, 50.0]]]).movedim(0, 1)
    >>> dice(certain, torch.tensor([[0, 1]])), dice(certain, torch.tensor([[1, 0]]))
    (tensor([0.]), tensor([0.6667]))
    """
    shared, sizes = _overlap(outputs, targets)
    return 1 - ((2 * shared + SMOOTH) / (sizes + SMOOTH)).mean(dim=1)


def dice_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The sum of both, example by example; see `dice`."""
    return dice(outputs, targets) + cross_entropy(outputs, targets)


def batch_dice(outputs: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft Dice over all pixels of the batch, the same value for each example: it couples them.

    As nnU-Net's `batch_dice` (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z); see `dice`.
    """
    shared, sizes = (part.sum(dim=0) for part in _overlap(outputs, targets))
    return (1 - ((2 * shared + SMOOTH) / (sizes + SMOOTH)).mean()).expand(len(outputs))


def _overlap(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels that prediction and truth share, and the sum of both sizes: (B, K - 1) each."""
    predicted = outputs.softmax(dim=1)
    if not targets.is_floating_point():  # not by `one_hot`, which looks at the values: under vmap there are none
        classes = torch.arange(outputs.shape[1]).view(-1, *[1] * (targets.ndim - 1)).to(targets)
        targets = (targets[:, None] == classes).to(outputs.dtype)
    predicted, truth = predicted[:, 1:].flatten(2), targets[:, 1:].flatten(2)
    return (predicted * truth).sum(dim=2), (predicted + truth).sum(dim=2)


SEGMENTATION_LOSSES: dict[SegmentationLoss, Loss] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "dice_cross_entropy": dice_cross_entropy,
    "batch_dice": batch_dice,
}
"""The losses of tasks that segment, by their name in audit files."""
