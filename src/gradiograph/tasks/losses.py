"""The losses that tasks train with, one value per example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy of each example, in nats; differentiable in the outputs and in targets that are probabilities.

    Args:
        outputs: Logits (B, K).
        targets: int64 (B,) in [0, K), or probabilities (B, K) whose rows add up to 1.

    Returns:
        (B,), each at least 0.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1]))
    tensor([0.6931])
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
    tensor([0.6931])
    """
    return F.cross_entropy(outputs, targets, reduction="none")
