"""FedSGD: the client sends the gradient of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.core.local_steps import private_steps, step_gradient
from gradiograph.core.protocol import LocalUpdate, Protocol
from gradiograph.core.registry import register
from gradiograph.core.task import buffer_change, copy_buffers, factored_shifts

if TYPE_CHECKING:
    from gradiograph.core.defence import Defence
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Batch, Tensors


@register("protocol", "fedsgd", paper="McMahan et al. 2017, arXiv 1602.05629")
@dataclass(frozen=True, kw_only=True)
class FedSGD(Protocol):
    """One gradient of the mean loss over the client's images.

    McMahan et al. 2017, section 2: FedAvg with one step on the whole batch, the gradient itself being sent.
    """

    @property
    def kind(self) -> Literal["gradient", "delta"]:
        """A gradient."""
        return "gradient"

    @property
    def augments(self) -> bool:
        """Never."""
        return False

    @property
    def step_size(self) -> float:
        """1.0: the gradient is sent unscaled."""
        return 1.0

    def num_steps(self, num_examples: int) -> int:
        """One."""
        return 1

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
        """The gradient, and the change of the buffers; see `Protocol.local_update`."""
        buffers, now = copy_buffers(task, state), torch.arange(len(batch))
        private = private_steps(task, batch, defence, len(batch), generator)
        shifts = factored_shifts(task, state, batch, 1) if differentiable and private is None else None
        gradient = step_gradient(
            task, {**state, **buffers}, batch, now, private, create_graph=differentiable, shifts=shifts
        )
        return LocalUpdate(gradient, buffer_change(state, buffers))
