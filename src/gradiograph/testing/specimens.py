"""Small invented material for the checks: films, a task, an update, an observation. Nothing here is a patient."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from gradiograph.core.attack import Observation
from gradiograph.core.defence import Chain, Defence, Encoding
from gradiograph.core.random import global_stream, stream
from gradiograph.core.replay import replay
from gradiograph.core.scoring import ScoringContext
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Belief, Update
from gradiograph.core.threat import ThreatModel
from gradiograph.protocols import FedSGD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from gradiograph.core.protocol import Protocol
    from gradiograph.core.tensors import Tensors

IMAGE_SHAPE = (1, 16, 16)


def films(count: int, shape: tuple[int, ...], *names: object) -> Tensor:
    """Smooth random images (count, *shape) in [0, 1], different for different names."""
    coarse = torch.rand(count, shape[0], 4, 4, generator=stream(0, "films", *names))
    fine = torch.rand(count, *shape, generator=stream(0, "grain", *names))
    return 0.9 * F.interpolate(coarse, size=shape[1:], mode="bilinear") + 0.1 * fine


def batch(size: int = 2, shape: tuple[int, ...] = IMAGE_SHAPE) -> Batch:
    """Films of as many patients, with labels 0, 1, 0, 1, ..."""
    return Batch(films(size, shape, "batch"), torch.arange(size) % 2, torch.arange(size))


def task(shape: tuple[int, ...] = IMAGE_SHAPE) -> Task:
    """A small network of two classes, smooth so that its gradient has a gradient everywhere."""
    channels, height, width = shape
    with global_stream(0, "task"):
        model = nn.Sequential(
            nn.Conv2d(channels, 6, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(6 * ((height + 1) // 2) * ((width + 1) // 2), 2),
        )
    return Task(
        name="specimen",
        model=model,
        loss=_cross_entropy,
        image_shape=shape,
        num_classes=2,
        mode="train",
        trainable=tuple(name for name, _ in model.named_parameters()),
    )


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def update_tensors(*names: object) -> dict[str, Tensor]:
    """A clean update of three parameters: a kernel, a matrix and a vector."""
    generator = stream(0, "update", *names)
    shapes = {"0.weight": (6, 1, 5, 5), "3.weight": (2, 96), "3.bias": (2,)}
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def observe(
    model: Task,
    private: Batch,
    *,
    threat: ThreatModel | None = None,
    defence: Defence | None = None,
    protocol: Protocol | None = None,
) -> Observation:
    """What a server sees of one round on `private`.

    Args:
        model: The task.
        private: The client's images; no field of the result reaches them.
        threat: What the server knows; all but what the type rules out, and the labels, by default.
        defence: The client's channel; none by default.
        protocol: What the client does; FedSGD by default.
    """
    threat = ThreatModel(knows_labels=True) if threat is None else threat
    defence = Chain() if defence is None else defence
    protocol = FedSGD() if protocol is None else protocol
    state = model.state()
    clean = protocol.local_update(model, state, private, stream(0, "client"), defence=defence)
    sent = defence.on_update(clean.tensors, stream(0, "defence"))
    encoding = defence.encode(sent, Encoding(num_values=sum(tensor.numel() for tensor in sent.values())))
    update = Update(
        tensors=sent,
        buffers=clean.buffers,
        kind=protocol.kind,
        num_examples=len(private),
        num_bytes=encoding.num_bytes,
    )
    known, shown = threat.knows_protocol, defence if threat.knows_defence else None
    return Observation(
        rounds=((state, update),),
        num_examples=len(private),
        task=model,
        threat=threat,
        defence=shown,
        labels=private.targets.clone() if threat.knows_labels else None,
        simulate=partial(_replay, model, state, protocol, shown) if known else None,
        local_steps=protocol.num_steps(len(private)) if known else None,
        local_learning_rate=protocol.step_size if known else None,
    )


def _replay(model: Task, state: Tensors, protocol: Protocol, defence: Defence | None, candidate: Batch) -> Belief:
    return replay(model, state, protocol, defence, candidate)


def scoring_context(shape: tuple[int, ...], network_folders: Mapping[str, Path] | None = None) -> ScoringContext:
    """A gallery of eight films of eight patients in two classes, and their mean."""
    gallery = films(8, shape, "gallery")
    return ScoringContext(
        gallery=gallery,
        gallery_labels=torch.arange(8) % 2,
        gallery_patients=tuple(f"gallery{place:05d}" for place in range(8)),
        mean_film=gallery.mean(dim=0),
        network_folders=dict(network_folders or {}),
    )
