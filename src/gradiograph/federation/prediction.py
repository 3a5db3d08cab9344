"""What a model says of films."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors


def predict(task: Task, state: Tensors, films: Iterable[Tensor]) -> Tensor:
    """The probabilities of the classes; normalisation layers use their running statistics.

    Args:
        task: The model; not changed.
        state: Weights and buffers.
        films: Blocks of images (n, C, *spatial) in [0, 1].

    Returns:
        (N, K) over all blocks, float64; each row adds up to 1.
    """
    # The task's own model stays in its mode: in train mode, a forward pass would let the films judge each other.
    judge = replace(task, model=deepcopy(task.model), mode="eval")
    with torch.no_grad():
        return torch.cat([judge.forward(state, block).double().softmax(dim=1) for block in films])
