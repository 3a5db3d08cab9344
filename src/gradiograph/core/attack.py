"""The interface of an attack: observation in, reconstruction out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gradiograph.core.defence import Defence
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Batch, Belief, Reconstruction, Tensors, Update
    from gradiograph.core.threat import ThreatModel


class Simulate(Protocol):
    """The replay of a client's round."""

    def __call__(self, batch: Batch, round: int = 0) -> Belief:
        """The clean update of a candidate batch from the state before this round, differentiable in the batch."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the server holds. No field and no closure in it can reach the private images.

    Attributes:
        rounds: (state before the round, the update that came back) for each round seen; the same images are behind all
            of them.
        num_examples: Images behind each update.
        task: Model and loss.
        threat: What the attacker may know.
        defence: The client's channel, None where the threat model hides it.
        labels: int64 (B,) where the threat model grants them, in the batch's order; else None.
        simulate: Replays the clean update of a candidate batch from a round's state, the first one's by default.
            None where the threat model hides the protocol.
        local_steps: Local optimiser steps behind each update, None where the protocol is hidden.
        local_learning_rate: The client's learning rate (1.0 for a gradient), None where the protocol is hidden.
        public: Some films of other patients of each class with their labels; None where the threat model does not grant
            public data, a class has no such film, or the task segments.
    """

    rounds: tuple[tuple[Tensors, Update], ...]
    num_examples: int
    task: Task
    threat: ThreatModel
    defence: Defence | None
    labels: Tensor | None
    simulate: Simulate | None
    local_steps: int | None
    local_learning_rate: float | None
    public: Batch | None = None


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Reads images out of an observation. A subclass is a frozen dataclass of settings."""

    @property
    def requires(self) -> tuple[str, ...]:
        """The fields of `ThreatModel` that must be granted; the audit checks them before anything runs.

        "malicious_server" is granted by `server = "malicious"`.
        """
        return ()

    def check(self, task: Task) -> None:
        """Raise `BadInput` where the attack does not fit the model; the audit asks before anything runs."""

    def plant(self, task: Task, state: Tensors) -> tuple[Task, Tensors]:
        """What a malicious server sends out in place of the model that is being trained; by default that model.

        An attack that plants something requires "malicious_server". It sees no update yet.

        Args:
            task: Model, loss and mode.
            state: All parameters and buffers by name, before the round; not changed.

        Returns:
            The task that the client trains, and the state that it begins with.
        """
        return task, state

    def started_at(self, images: Tensor) -> Attack | None:
        """The same search begun at these images; None for an attack that does not search.

        For the audit's oracle control only, which starts a search near the truth to see where the objective leads. No
        attack is given a start.

        Args:
            images: (B, C, *spatial) in [0, 1], in the batch's order.
        """
        return None

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Reconstruct the batch.

        Args:
            observation: What the server holds.
            generator: The attack's randomness (its starting point).
            progress: Called with the share of the work done, in [0, 1].

        Raises:
            MissingKnowledge: the threat model does not grant what the attack needs.
        """
        raise NotImplementedError
