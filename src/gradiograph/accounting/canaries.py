"""Canaries: examples that pull at one weight each, so that the server can tell whether each was in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
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
_TELLING = 30
"""Canaries whose weights tell how far the weights of their parameter spread, to about an eighth."""
_INNER = "inner."


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """What the server makes of one training with canaries, and the truth.

    Attributes:
        scores: (m,), log-likelihood ratios of in to out, up to a factor: how far each canary's weight went the way that
            the canary pulls, by how much the weights of its parameter spread.
        included: (m,), whether it was in.
    """

    scores: NDArray[np.float64]
    included: NDArray[np.bool_]


def canary_task(task: Task, places: Mapping[str, Tensor]) -> Task:
    """The task with labels that pull at single weights.

    A label K + i is canary i: its loss is -`SLOPE` times its weight and nothing else, so its gradient has that norm and
    is orthogonal to that of any other. A label K + m is an empty place: its loss is zero.

    Args:
        task: With K classes, and labels that are no probabilities.
        places: int64 (k,) by parameter: the m weights that canaries pull at, in their flattened tensors.
    """
    return replace(
        task,
        model=_WithCoordinates(task.model, places),
        loss=partial(_loss, task.loss, task.num_classes),
        trainable=tuple(_INNER + name for name in task.trainable),
    )


def spread(task: Task, canaries: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights for the canaries to pull at, as many in each parameter as in others, as far as they have so many.

    Raises:
        BadInput: the task has fewer weights that train.
    """
    state = task.state()
    sizes = {name: state[name].numel() for name in sorted(task.trainable, key=lambda name: state[name].numel())}
    if sum(sizes.values()) < canaries:
        msg = (
            f"task '{task.name}' trains {sum(sizes.values())} weights, and each of {canaries} canaries needs one of "
            "its own. Take a larger network."
        )
        raise BadSetting(msg)
    places, left = {}, canaries
    for number, (name, size) in enumerate(sizes.items()):
        count = min(size, -(-left // (len(sizes) - number)))
        places[name] = torch.randperm(size, generator=generator)[:count]
        left -= count
    return {name: places[name] for name in task.trainable}


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
    one that any training takes. A model so trained is of no other use.

    Args:
        task: Model and loss, from whose weights the training begins.
        protocol: The client's work in a round; its mini-batch is of the films and the canaries together.
        defence: The channel.
        batch: The client's films, at least one, with patients where the defence clips by patient. To the server that
            looks for canaries what the films do is more noise: few are best.
        canaries: m, at least `FEWEST`.
        rounds: In each the server adds the update to the weights.
        seed: Of the coins, the client and the defence.
        client: The private step: what a client sends, as `core.client.client_update`.

    Returns:
        With scores that are not comparable between trainings.

    Raises:
        BadInput: too few canaries or weights, the client refuses the task, or the training is no longer finite.
    """
    if canaries < FEWEST:
        msg = f"canaries = {canaries} can show too little; take at least {FEWEST}."
        raise BadSetting(msg)
    included = torch.rand(canaries, generator=stream(seed, "canaries")) < 0.5
    places = spread(task, canaries, stream(seed, "canaries", "places"))
    grown, examples = canary_task(task, places), _with_canaries(batch, task.num_classes, included)
    sign = 1.0 if protocol.kind == "delta" else -1.0
    state, seen = grown.state(), torch.zeros(canaries, dtype=torch.float64)
    for number in range(1, rounds + 1):
        update = client(grown, state, examples, protocol, defence, seed, "canaries", number).tensors
        seen += sign * torch.cat([update[_INNER + name].flatten()[at].double() for name, at in places.items()])
        state = {**state, **{name: state[name] + sign * protocol.step_size * update[name] for name in grown.trainable}}
    if not bool(torch.isfinite(seen).all()):
        msg = "The training with canaries is no longer finite. Lower the learning rate."
        raise BadSetting(msg)
    return CanaryRun(
        scores=_evidence(torch.split(seen, [len(at) for at in places.values()])), included=included.numpy()
    )


class _WithCoordinates(nn.Module):
    """A model whose outputs are followed by some of its own weights."""

    def __init__(self, inner: nn.Module, places: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self._places = dict(places)

    def forward(self, images: Tensor) -> Tensor:
        """(B, K + m) from images (B, C, *spatial)."""
        weights = [attrgetter(name)(self.inner).flatten()[at] for name, at in self._places.items()]
        return torch.cat([self.inner(images), torch.cat(weights).expand(len(images), -1)], dim=1)


def _evidence(seen: Sequence[Tensor]) -> NDArray[np.float64]:
    """Log-likelihood ratios from how far the canaries' weights went, (k,) for each parameter.

    In each parameter the weights of canaries that are out lie about zero, those of canaries that are in about the same
    shift, with equal spread, which is its own where enough canaries tell it: noise may lack in one of them.
    """
    whole = torch.cat(list(seen))
    shift = 2 * whole.mean()
    pooled = whole.var()
    ratios = []
    for own in seen:
        variance = own.var() if len(own) >= _TELLING else pooled
        noise = (variance - shift.square() / 4).clamp_min(1e-4 * shift.square())
        ratios.append((own - shift / 2) / noise)
    return torch.cat(ratios).numpy()


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
