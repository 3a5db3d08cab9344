"""The steps of local training: which examples each takes, and what their gradient is under a defence on examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradiograph.core.example_gradients import example_gradients, merged, require_separate_examples, units
from gradiograph.core.random import stream
from gradiograph.core.task import mean_gradient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradiograph.core.defence import Defence
    from gradiograph.core.factored import OuterSum
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Batch, Tensors


BLOCK = 16
"""Images whose gradients are in memory at once; larger blocks are hardly faster on a processor."""


@dataclass(frozen=True, kw_only=True)
class PrivateSteps:
    """Steps whose gradients pass a defence on each example.

    Attributes:
        stage: The defence.
        unit_of: int64 (B,), the unit of each of the client's images.
        rate: The chance of each unit to be in a step; 1 takes all in every step.
        draws: What draws the units of a step; None is the attacker's replay, which takes all: the expectation.
        noise: What the defence draws its noise from; None is the attacker's replay, which has none.
    """

    stage: Defence
    unit_of: Tensor
    rate: float
    draws: torch.Generator | None
    noise: torch.Generator | None

    @property
    def expected(self) -> float:
        """The expected number of units in a step as it is taken here."""
        count = int(self.unit_of.max()) + 1
        return count if self.draws is None else self.rate * count

    def sample(self) -> Tensor:
        """The images of a step: each unit is in it or not, by itself (Poisson sampling); int64 (n,), n may be 0."""
        if self.rate == 1 or self.draws is None:
            return torch.arange(len(self.unit_of))
        taken = torch.rand(int(self.unit_of.max()) + 1, generator=self.draws) < self.rate
        return taken[self.unit_of].nonzero()[:, 0]

    def gradient(
        self, task: Task, state: Tensors, batch: Batch, indices: Tensor, *, create_graph: bool = False
    ) -> Tensors:
        """What the defence makes of these images' gradients.

        Args:
            task: Model and loss.
            state: Weights and buffers.
            batch: The step's images.
            indices: Which of the client's images they are.
            create_graph: Keep the graph from the images to the result.
        """
        own = self.unit_of[indices]
        total = {name: torch.zeros_like(state[name]) for name in task.trainable}
        for places in blocks(own):
            found = example_gradients(task, state, batch.part(places), create_graph=create_graph)
            part = self.stage.on_example_gradients(merged(found, own[places]))
            total = {name: tensor + part[name] for name, tensor in total.items()}
        return self.stage.on_example_sum(total, self.expected, self.noise)


def blocks(unit_of: Tensor) -> Iterator[Tensor]:
    """The places of the images, a block of about `BLOCK` at a time; no unit is in two blocks.

    >>> [places.tolist() for places in blocks(torch.tensor([1, 0, 1]))]
    [[1, 0, 2]]
    """
    order = torch.argsort(unit_of, stable=True)
    sizes = torch.unique_consecutive(unit_of[order], return_counts=True)[1].tolist()
    start = end = 0
    for size in sizes:
        end += size
        if end - start >= BLOCK:
            yield order[start:end]
            start = end
    if end > start:
        yield order[start:end]


def private_steps(
    task: Task, batch: Batch, defence: Defence | None, batch_size: int, generator: torch.Generator | None
) -> PrivateSteps | None:
    """The private steps of a client's round; None where no defence acts on examples.

    The attacker's replay takes each image to be another patient's.

    Args:
        task: Model and loss.
        batch: The client's images.
        defence: Its channel.
        batch_size: Images in a mini-batch, on average.
        generator: The client's randomness; None is the attacker's replay.

    Raises:
        BadSetting: the task mixes examples, or the patients are needed and not known.
    """
    stage = defence.example_stage if defence is not None else None
    if stage is None or stage.unit is None:
        return None
    require_separate_examples(task)
    return PrivateSteps(
        stage=stage,
        unit_of=units(batch, "example" if generator is None else stage.unit),
        rate=batch_size / len(batch),
        draws=generator,
        noise=None if generator is None else stream(generator.initial_seed(), "noise on examples"),
    )


def step_gradient(
    task: Task,
    state: Tensors,
    batch: Batch,
    indices: Tensor,
    steps: PrivateSteps | None,
    *,
    create_graph: bool = False,
    shifts: Mapping[str, OuterSum] | None = None,
) -> Tensors:
    """The gradient of a local step: of the mean loss, or what a defence on examples makes of each.

    Args:
        task: Model and loss.
        state: Weights and buffers.
        batch: The step's images.
        indices: Which of the client's images they are.
        steps: The private steps, None where no defence acts on examples.
        create_graph: See `mean_gradient`.
        shifts: See `mean_gradient`; only without private steps.
    """
    if steps is None:
        return mean_gradient(task, state, batch, create_graph=create_graph, shifts=shifts)
    return steps.gradient(task, state, batch, indices, create_graph=create_graph)
