"""What a model says of films."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors


def predict_masks(task: Task, state: Tensors, films: Iterable[Tensor]) -> Iterator[Tensor]:
    """The most probable structure of each pixel, block by block; see `predict`.

    Args:
        task: A task that segments; not changed.
        state: Weights and buffers.
        films: Blocks of images (n, C, *spatial) in [0, 1].

    Yields:
        int64 (n, *spatial).
    """
    judge = _judge(task)
    with torch.no_grad():
        for block in films:
            yield judge.forward(state, block).argmax(dim=1)


def predict(task: Task, state: Tensors, films: Iterable[Tensor]) -> Tensor:
    """The probabilities of the classes; normalisation layers use their running statistics.

    Args:
        task: The model; not changed.
        state: Weights and buffers.
        films: Blocks of images (n, C, *spatial) in [0, 1].

    Returns:
        (N, K) over all blocks, float64; each row adds up to 1.
    """
    judge = _judge(task)
    with torch.no_grad():
        return torch.cat([judge.forward(state, block).double().softmax(dim=1) for block in films])


def _judge(task: Task) -> Task:
    """The task's own model stays in its mode: in train mode, a forward pass would let the films judge each other."""
    return replace(task, model=deepcopy(task.model), mode="eval")
