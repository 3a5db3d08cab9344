"""Local training: the client trains for some steps and sends the change of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from gradiograph.core.errors import BadSetting
from gradiograph.core.factored import FactoredTensors, factors
from gradiograph.core.local_steps import PrivateSteps, private_steps, step_gradient
from gradiograph.core.protocol import LocalUpdate, Protocol
from gradiograph.core.task import buffer_change, copy_buffers, factored_shifts
from gradiograph.core.tensors import Batch
from gradiograph.protocols.augmentation import Augmentation, augment
from gradiograph.protocols.optimisers import Memory, Step, adamw, linear_gain, sgd

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Defence
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class LocalTraining(Protocol):
    """What FedAvg and FedProx share: mini-batches, steps, optimiser, augmentation. Each names the settings it takes."""

    name: ClassVar[str]
    """In audit files, for messages."""

    local_steps: Annotated[int, Field(ge=1)] | None = None
    local_epochs: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)] | None = None
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    augmentation: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        if (self.local_steps is None) == (self.local_epochs is None):
            msg = (
                f"{self.name} needs either local_steps or local_epochs; "
                f"got local_steps = {self.local_steps}, local_epochs = {self.local_epochs}."
            )
            raise BadSetting(msg)
        if self.optimiser == "adamw" and self.momentum:
            own = "belongs to optimiser = 'sgd'; 'adamw' has its own. Remove it."
            msg = f"{self.name}: momentum = {self.momentum} {own}"
            raise BadSetting(msg)

    @property
    def pull(self) -> float:
        """How strongly every step is drawn back to the weights before the round; 0 is not at all."""
        return 0.0

    @property
    def kind(self) -> Literal["gradient", "delta"]:
        """A delta."""
        return "delta"

    @property
    def augments(self) -> bool:
        """Whether any augmentation is set."""
        return bool(self.augmentation)

    @property
    def step_size(self) -> float:
        """The local learning rate."""
        return self.learning_rate

    def num_steps(self, num_examples: int) -> int:
        """Optimiser steps in a round on this many images."""
        steps_an_epoch = ceil(num_examples / self._batch_size(num_examples))
        return self.local_steps or (self.local_epochs or 0) * steps_an_epoch

    def sample_rate(self, num_examples: int) -> float:
        """Mini-batch over images; see `Protocol.sample_rate`."""
        return self._batch_size(num_examples) / num_examples

    def noise_gain(self, num_examples: int) -> float:
        """From the recursion of SGD with momentum; see `Protocol.noise_gain`."""
        if self.optimiser != "sgd":
            msg = (
                f"{self.name}: under a defence on examples an attack needs the variance of the update, which is known "
                f"for optimiser = 'sgd', not for '{self.optimiser}'. Use 'sgd'."
            )
            raise BadSetting(msg)
        return linear_gain(
            steps=self.num_steps(num_examples),
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            decay=self.weight_decay + self.pull,
        )

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
        """The change of the weights and of the buffers; see `Protocol.local_update`."""
        steps = self.num_steps(len(batch))
        buffers = copy_buffers(task, state)
        # Plain SGD moves a dense weight by outer products; the replay keeps these in place of the weight itself.
        private = private_steps(task, batch, defence, self._batch_size(len(batch)), generator)
        linear = differentiable and self.optimiser == "sgd" and not self.weight_decay and private is None
        shifts = factored_shifts(task, state, batch, steps) if linear else {}
        weights = {name: state[name].detach() for name in task.trainable if name not in shifts}
        memory: dict[str, Memory] = dict.fromkeys(task.trainable, ())
        step = self._optimiser()
        for count, indices in enumerate(islice(self._mini_batches(len(batch), generator, private), steps)):
            images = batch.images[indices]
            if self.augmentation and generator is not None:
                images = augment(images, self.augmentation, generator)
            part, now = Batch(images, batch.targets[indices]), {**state, **buffers, **weights}
            gradient = step_gradient(task, now, part, indices, private, create_graph=differentiable, shifts=shifts)
            for name, weight in weights.items():
                slope = self._pulled(gradient[name], weight - state[name])
                weights[name], memory[name] = step(weight, slope, memory[name], count)
            for name, shift in shifts.items():
                slope = self._pulled(factors(gradient, name), shift)
                shifts[name], memory[name] = step(shift, slope, memory[name], count)
        changes = {name: weight - state[name] for name, weight in weights.items()}
        tensors: Tensors = FactoredTensors({**changes, **shifts}) if shifts else changes
        return LocalUpdate(tensors, buffer_change(state, buffers))

    def _pulled(self, gradient: Any, moved: Any) -> Any:  # noqa: ANN401 - tensors, or factors of both
        """The gradient with that of (pull / 2) ||moved||^2."""
        return gradient + self.pull * moved if self.pull else gradient

    def _batch_size(self, num_examples: int) -> int:
        return num_examples if self.batch_size is None else min(self.batch_size, num_examples)

    def _mini_batches(
        self, num_examples: int, generator: torch.Generator | None, private: PrivateSteps | None = None
    ) -> Iterator[Tensor]:
        """Without end: epoch after epoch, shuffled by the client, in the order given for the attacker.

        Under a defence on examples each step draws its own: only Poisson sampling amplifies the guarantee.
        """
        size = self._batch_size(num_examples)
        while private is not None:
            yield private.sample()
        while True:
            whole = size == num_examples or generator is None
            order = torch.arange(num_examples) if whole else torch.randperm(num_examples, generator=generator)
            yield from torch.split(order, size)

    def _optimiser(self) -> Step:
        if self.optimiser == "adamw":
            return adamw(learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        return sgd(learning_rate=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)
