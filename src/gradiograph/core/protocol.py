"""The interface of a protocol: what one client does in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

    from gradiograph.core.defence import Defence
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Batch, Tensors


class LocalUpdate(NamedTuple):
    """What local training changed: a gradient or a delta by parameter, and the change of the buffers."""

    tensors: Tensors
    buffers: Tensors


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """One client's work in a round, the same code for the client and for the attacker who replays it."""

    @property
    @abstractmethod
    def kind(self) -> Literal["gradient", "delta"]:
        """What is sent: a gradient, or weights after minus weights before."""

    @property
    @abstractmethod
    def augments(self) -> bool:
        """Whether the client draws random augmentations."""

    @property
    @abstractmethod
    def step_size(self) -> float:
        """The local learning rate; 1.0 where a gradient is sent."""

    @abstractmethod
    def num_steps(self, num_examples: int) -> int:
        """The number of local optimiser steps on this many images."""

    def sample_rate(self, num_examples: int) -> float:
        """The chance of an example to be in a step, where a defence on examples draws them; 1 is always."""
        return 1.0

    def noise_gain(self, num_examples: int) -> float:
        """The variance of each value of the update for noise of variance 1 on every value of each step's gradient.

        To first order: what the noise of one step changes in the gradients of the next ones is left out.

        Raises:
            BadInput: the local optimiser is not linear in the gradient.
        """
        return 1.0

    @abstractmethod
    def local_update(
        self,
        task: Task,
        state: Tensors,
        batch: Batch,
        generator: torch.Generator | None,
        *,
        differentiable: bool = False,
        defence: Defence | None = None,
    ) -> LocalUpdate:
        """Train from `state` on `batch`.

        Args:
            task: Model, loss, mode.
            state: Weights and buffers before the round; not changed.
            batch: The client's images and targets.
            generator: The client's randomness (order of mini-batches, augmentation). None is the attacker's replay:
                images in the order given, no augmentation.
            differentiable: Keep the graph from the batch to the result.
            defence: The client's channel; only the stage that acts on examples counts here. The attacker's replay
                clips as the client does, and has neither noise nor sampling.

        Raises:
            BadInput: the task does not go with a defence on examples.
        """
