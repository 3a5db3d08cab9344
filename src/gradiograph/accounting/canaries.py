"""Canaries: examples whose gradient is one coordinate of its own, so that the server can tell whether each was in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradiograph.core.client import client_update
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Update

if TYPE_CHECKING:
    from gradiograph.core.defence import Chain
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Loss

FEWEST = 1000
"""Fewer canaries cannot show an epsilon above about 5."""
SLOPE = 1e3
"""The norm of a canary's gradient: far above any clip, so that a clip is met and a missing one is noticed."""
_COORDINATES = "canaries"


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """What the server holds of one training with canaries, and the truth.

    Attributes:
        scores: (m,), how far each canary's coordinate went the way that the canary pulls.
        included: (m,), whether it was in.
    """

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]


def canary_task(task: Task, canaries: int) -> Task:
    """The task with one more parameter, a coordinate for each canary, and with labels that pull at them.

    A label K + i is canary i: its loss is -`SLOPE` times coordinate i and nothing else, so its gradient has that norm
    and is orthogonal to all others. A label K + m is an empty place: its loss is zero. A server that sends the model
    can send this one, so a defence must hold on it as on any other.

    Args:
        task: With K classes and labels, not probabilities.
        canaries: m, at least 1.
    """
    model = _WithCoordinates(task.model, canaries)
    return replace(
        task,
        model=model,
        loss=partial(_loss, task.loss, task.num_classes),
        trainable=(*(f"inner.{name}" for name in task.trainable), _COORDINATES),
    )


def train_with_canaries(
    task: Task,
    protocol: Protocol,
    defence: Chain,
    batch: Batch,
    *,
    canaries: int,
    rounds: int,
    seed: int,
    client: Callable[..., Update] = client_update,
) -> CanaryRun:
    """Train one client on its films and on canaries, and read off every update what it tells of each canary.

    Each canary is in by its own fair coin, with an image of its own and as a patient of its own; one that is out leaves
    an empty place, so that the number of examples and the sampling rate do not depend on it. The client's step is the
    one that any training takes. Nothing of this training is of use for another purpose.

    Args:
        task: Model and loss, from whose weights the training begins.
        protocol: The client's work in a round; its mini-batch is of the films and the canaries together.
        defence: The channel, with DP-SGD or noise.
        batch: The client's films, with patients where the defence clips by patient.
        canaries: m, at least `FEWEST`.
        rounds: In each the server adds the update to the weights.
        seed: Of the coins, the client and the defence.
        client: The private step: what a client sends, as `core.client.client_update`.

    Raises:
        BadInput: too few canaries, or the client refuses the task.
    """
    if canaries < FEWEST:
        msg = f"canaries = {canaries} can show too little; take at least {FEWEST}."
        raise BadSetting(msg)
    included = torch.rand(canaries, generator=stream(seed, "canaries")) < 0.5
    grown, films = canary_task(task, canaries), _with_canaries(batch, task.num_classes, included)
    state, seen = grown.state(), torch.zeros(canaries, dtype=torch.float64)
    sign = 1.0 if protocol.kind == "delta" else -1.0
    for number in range(1, rounds + 1):
        update = client(grown, state, films, protocol, defence, seed, "canaries", number)
        moved = {name: state[name] + sign * protocol.step_size * tensor for name, tensor in update.tensors.items()}
        state = {**state, **moved}
        seen += sign * update.tensors[_COORDINATES].double()
    return CanaryRun(scores=seen.numpy(), included=included.numpy())


class _WithCoordinates(nn.Module):
    """A model whose outputs are followed by one coordinate for each canary."""

    def __init__(self, inner: nn.Module, canaries: int) -> None:
        super().__init__()
        self.inner = inner
        self.canaries = nn.Parameter(torch.zeros(canaries))

    def forward(self, images: Tensor) -> Tensor:
        """(B, K + m) from images (B, C, *spatial)."""
        return torch.cat([self.inner(images), self.canaries.expand(len(images), -1)], dim=1)


def _loss(inner: Loss, num_classes: int, outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) from outputs (B, K + m) and labels, K + i for canary i, K + m for an empty place."""
    real = targets < num_classes
    padded = torch.cat([outputs, torch.zeros_like(outputs[:, :1])], dim=1)
    pull = -SLOPE * padded.gather(1, targets[:, None]).squeeze(1)
    return torch.where(real, inner(outputs[:, :num_classes], targets.clamp_max(num_classes - 1)), pull)


def _with_canaries(batch: Batch, num_classes: int, included: Tensor) -> Batch:
    canaries = len(included)
    labels = num_classes + torch.where(included, torch.arange(canaries), canaries)
    images = torch.full((canaries, *batch.images.shape[1:]), 0.5)
    patients = None
    if batch.patients is not None:
        own = int(batch.patients.max()) + 1 + torch.arange(canaries)
        patients = torch.cat([batch.patients, own])
    return Batch(torch.cat([batch.images, images]), torch.cat([batch.targets, labels]), patients)
