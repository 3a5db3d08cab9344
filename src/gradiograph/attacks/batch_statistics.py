"""What the running statistics of BatchNorm tell of the batch that moved them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from gradiograph.core.errors import BadSetting
from gradiograph.core.task import copy_buffers

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task


def require_statistics(task: Task, attack: str) -> None:
    """Refuse a model whose statistics no training moves.

    Raises:
        BadSetting: no BatchNorm layer is in train mode.
    """
    if not _layers(task):
        msg = (
            f"Attack '{attack}': statistics > 0 reads the statistics of BatchNorm, but task '{task.name}' has none "
            "that a training moves. Set statistics = 0, or take a task with BatchNorm in mode = 'train'."
        )
        raise BadSetting(msg)


def batch_statistics(observation: Observation) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean and the variance (C,) of each BatchNorm layer's inputs over the batch, by the layer's name.

    A training step moves a running statistic r to (1 - m) r + m b, where b is the batch's own and m is known; of
    several steps the mean over them is had (Hatamizadeh et al. 2023, arXiv 2202.06924, section 4.2, take them as such).

    Args:
        observation: What the server holds; buffers and protocol are known.

    Returns:
        Unbiased variances, as BatchNorm keeps them.
    """
    state, update = observation.rounds[0]
    steps = observation.local_steps or 1
    found = {}
    for name, layer in _layers(observation.task).items():
        keep = (1 - float(layer.momentum or 0.0)) ** steps
        mean, var = (
            state[key] + update.buffers[key] / (1 - keep) for key in (f"{name}.running_mean", f"{name}.running_var")
        )
        found[name] = (mean, var.clamp_min(0))
    return found


def statistics_misfit(observation: Observation) -> Callable[[Tensor], Tensor]:
    """Images (B, C, H, W) -> how far their statistics are from the batch's: relative squared errors, mean over layers.

    The weights are those before the round.
    """
    task, (state, _) = observation.task, observation.rounds[0]
    wanted, layers = batch_statistics(observation), _layers(observation.task)

    def misfit(images: Tensor) -> Tensor:
        errors: list[Tensor] = []

        def compare(name: str, inputs: Tensor) -> None:
            places = [0, *range(2, inputs.ndim)]
            for seen, truth in zip((inputs.mean(dim=places), inputs.var(dim=places)), wanted[name], strict=True):
                errors.append((seen - truth).square().sum() / truth.square().sum().clamp_min(1e-12))

        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: compare(name, inputs[0]))
            for name, layer in layers.items()
        ]
        try:
            task.forward({**state, **copy_buffers(task, state)}, images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(errors).mean()

    return misfit


def _layers(task: Task) -> dict[str, _BatchNorm]:
    """The BatchNorm layers whose running statistics a training step moves by a known share."""
    return {
        name: layer
        for name, layer in task.model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats and layer.momentum
    }
