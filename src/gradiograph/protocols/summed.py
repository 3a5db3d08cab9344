"""Several clients' rounds as one: what a server that sees only their sum replays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

from gradiograph.core.factored import FactoredTensors, factors, scaled
from gradiograph.core.protocol import LocalUpdate, Protocol
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gradiograph.core.defence import Defence
    from gradiograph.core.factored import OuterSum
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class SummedProtocol(Protocol):
    """The mean of the updates of `clients` clients, each with its equal share of the batch, in order.

    Not a component: an audit makes it where only a sum is observed (secure aggregation).

    Attributes:
        each: What every client does.
        clients: How many, at least 1.
    """

    each: Protocol
    clients: int

    @property
    def kind(self) -> Literal["gradient", "delta"]:
        """That of every client."""
        return self.each.kind

    @property
    def augments(self) -> bool:
        """As every client does."""
        return self.each.augments

    @property
    def step_size(self) -> float:
        """That of every client."""
        return self.each.step_size

    def num_steps(self, num_examples: int) -> int:
        """The local steps of every client, for this many images of all of them."""
        return self.each.num_steps(num_examples // self.clients)

    def sample_rate(self, num_examples: int) -> float:
        """So that this many images times the rate are drawn of one client: a step's noise is divided by these."""
        return self.each.sample_rate(num_examples // self.clients) / self.clients

    def noise_gain(self, num_examples: int) -> float:
        """The noises of the clients are independent: their mean has the variance of one, divided by the clients."""
        return self.each.noise_gain(num_examples // self.clients) / self.clients

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
        """The mean over the clients' shares of the batch; see `Protocol.local_update`."""
        size = len(batch) // self.clients
        parts = [
            Batch(batch.images[start : start + size], batch.targets[start : start + size])
            for start in range(0, size * self.clients, size)
        ]
        each = [
            self.each.local_update(task, state, part, generator, differentiable=differentiable, defence=defence)
            for part in parts
        ]
        return LocalUpdate(_mean([one.tensors for one in each]), _mean([one.buffers for one in each]))


def _mean(parts: list[Tensors]) -> Tensors:
    """The mean by name; factors stay factors."""
    total = {name: reduce(_add, (factors(part, name) for part in parts)) for name in parts[0]}
    return scaled(FactoredTensors(total), 1 / len(parts))


def _add(first: Tensor | OuterSum, second: Tensor | OuterSum) -> Tensor | OuterSum:
    return first + second  # type: ignore[operator] # as large a share of the batch is kept in the same way
