"""Tiny observations whose truth is known, for the tests of the attacks."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from gradiograph.core.attack import Observation
from gradiograph.core.defence import Chain
from gradiograph.core.protocol import Protocol
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Belief, Tensors, Update
from gradiograph.core.threat import ThreatModel
from gradiograph.protocols import FedSGD

SIDE = 12


def per_example(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def tiny_task(classes: int = 3, channels: int = 1, seed: int = 0, bias: bool = True) -> Task:
    """Two sigmoid convolutions and a dense layer, weights uniform as in Zhu et al. 2019."""
    with global_stream(seed, "weights"):
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 5, padding=2, stride=2),
            nn.Sigmoid(),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(12 * (SIDE // 2) ** 2, classes, bias=bias),
        )
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
    return task_of(model, (channels, SIDE, SIDE), classes)


def task_of(model: nn.Module, image_shape: tuple[int, ...], classes: int = 2, mode: str = "train") -> Task:
    """A model as a task, all of whose parameters train."""
    return Task(
        name="tiny",
        model=model,
        loss=per_example,
        image_shape=image_shape,
        num_classes=classes,
        mode=mode,
        trainable=tuple(name for name, _ in model.named_parameters()),
    )


def smooth_images(count: int, channels: int = 1, seed: int = 1) -> torch.Tensor:
    """(count, channels, 12, 12), grey: a 3 x 3 picture of ours, upsampled bilinearly."""
    small = torch.rand(count, 1, SIDE // 4, SIDE // 4, generator=stream(seed, "films"))
    images = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return images.expand(-1, channels, -1, -1).contiguous()


def replay(task: Task, state: Tensors, protocol: Protocol, batch: Batch) -> Belief:
    return Belief(protocol.local_update(task, state, batch, None, differentiable=True).tensors)


def observe(
    task: Task,
    batch: Batch,
    protocol: Protocol | None = None,
    defence: Chain | None = None,
    **threat: object,
) -> Observation:
    """What the server sees of this batch; labels are in it only where the threat model grants them."""
    protocol, defence, state = protocol or FedSGD(), defence or Chain(), task.state()
    power = ThreatModel(**{"knows_labels": True, **threat})
    clean = protocol.local_update(task, state, batch, stream(0, "client")).tensors
    update = Update(
        tensors=defence.on_update(clean, stream(0, "defence")),
        buffers={},
        kind=protocol.kind,
        num_examples=len(batch),
        num_bytes=0,
    )
    return Observation(
        rounds=((state, update),),
        num_examples=len(batch),
        task=task,
        threat=power,
        defence=defence if power.knows_defence else None,
        labels=batch.targets if power.knows_labels else None,
        simulate=partial(replay, task, state, protocol) if power.knows_protocol else None,
        local_steps=protocol.num_steps(len(batch)) if power.knows_protocol else None,
        local_learning_rate=protocol.step_size if power.knows_protocol else None,
    )


def ignore(share: float) -> None:
    """A progress bar that shows nothing."""


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).square().mean())
