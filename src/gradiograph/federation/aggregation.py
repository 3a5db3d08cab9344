"""The mean of the clients' updates, summed as they come in, and what is not let into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from gradiograph.core.tensors import Tensors, Update

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task


class WeightedSum:
    """Sum of updates, each times its weight; one update's memory, however many are added.

    Summed in double precision: the mean of one update is that update, bit by bit.

    Args:
        weight: Of a client with this many examples; its number of examples by default.
    """

    def __init__(self, weight: Callable[[int], float] = float) -> None:
        self.examples = 0
        self._weight, self._weights = weight, 0.0
        self.clients = 0
        self._sums: dict[str, dict[str, Tensor]] = {"tensors": {}, "buffers": {}}

    def add(self, update: Update) -> None:
        """Add an update; it may be forgotten afterwards."""
        weight = self._weight(update.num_examples)
        for part, sums in self._sums.items():
            for name, tensor in getattr(update, part).items():
                if name not in sums:
                    sums[name] = torch.zeros_like(tensor, dtype=torch.float64)
                sums[name].add_(tensor.detach(), alpha=weight)
        self._weights += weight
        self.examples += update.num_examples
        self.clients += 1

    def mean(self, like: Tensors, over: float | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The mean tensors and the mean change of the buffers, in the types of `like`.

        Args:
            like: The state.
            over: What the sum is divided by; None is the sum of the weights.
        """
        whole = self._weights if over is None else over
        tensors, buffers = (
            {name: (total / whole).to(like[name].dtype) for name, total in sums.items()} for sums in self._sums.values()
        )
        return tensors, buffers


def secure_sum(updates: Sequence[Update], like: Tensors) -> Update:
    """What the server sees of several clients under secure aggregation: nothing but their sum.

    Given as the mean, each update counting by its examples: the sum divided by the number of examples, which is public.

    Args:
        updates: At least one, all of one kind.
        like: The state, for the types.
    """
    total = WeightedSum()
    for update in updates:
        total.add(update)
    tensors, buffers = total.mean(like)
    return Update(
        tensors=tensors,
        buffers=buffers,
        kind=updates[0].kind,
        num_examples=total.examples,
        num_bytes=sum(update.num_bytes for update in updates),
    )


def refusal(update: Update | None, task: Task, protocol: Protocol, state: Tensors) -> str:
    """Why an update cannot be averaged; empty where it can.

    It must come, be of the protocol's kind, have every trainable parameter and every floating-point buffer in its own
    shape and nothing else, and be finite.
    """
    if update is None:
        return "sent nothing"
    if update.kind != protocol.kind or update.num_examples < 1:
        return f"sent a {update.kind} of {update.num_examples} examples, expected is a {protocol.kind} of at least 1"
    buffers = tuple(name for name, buffer in task.model.named_buffers() if buffer.is_floating_point())
    parts = ((update.tensors, task.trainable), (update.buffers, buffers))
    return next((problem for part, names in parts for problem in _problems(part, names, state)), "")


def _problems(tensors: Tensors, names: tuple[str, ...], state: Tensors) -> Iterator[str]:
    lacking, foreign = set(names) - set(tensors), set(tensors) - set(names)
    if lacking or foreign:
        yield f"sent {len(tensors)} tensors: {len(lacking)} of the model's {len(names)} lack, {len(foreign)} foreign"
        return
    for name in names:
        if tensors[name].shape != state[name].shape:
            yield f"sent '{name}' in shape {tuple(tensors[name].shape)}, the model's is {tuple(state[name].shape)}"
        elif not bool(torch.isfinite(tensors[name]).all()):
            yield f"sent values in '{name}' that are not finite"
