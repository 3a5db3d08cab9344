"""Where attacks run. The client's update is made on the CPU everywhere, so that every machine attacks the same one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from gradiograph.core.client import Round
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Reconstruction, Tensors


def require_device(device: str) -> None:
    """The device of the audit is there.

    Raises:
        BadSetting: it is not.
    """
    if device == "cuda" and not torch.cuda.is_available():
        msg = "device = 'cuda', but torch finds no GPU here. Leave device out, or install a torch that sees yours."
        raise BadSetting(msg)


def device_name(device: str) -> str:
    """What the device is called, for the record."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def to_device(task: Task, rounds: tuple[Round, ...], device: str) -> tuple[Round, ...]:
    """The rounds on this device; the task's model goes there too."""
    task.model.to(device)
    return tuple(
        (
            _to(state, device),
            replace(update, tensors=_to(update.tensors, device), buffers=_to(update.buffers, device)),
        )
        for state, update in rounds
    )


def from_device(found: Reconstruction) -> Reconstruction:
    """What was found, on the CPU and apart from the graph that led to it."""
    targets = None if found.targets is None else found.targets.detach().cpu()
    return replace(found, images=found.images.detach().cpu(), targets=targets)


def _to(tensors: Tensors, device: str) -> Tensors:
    return {name: tensor.to(device) for name, tensor in tensors.items()}
