"""The server adds the clients' mean update, with momentum if asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.core.server import Server, ServerMemory

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Tensors


@register("server", "sgd", paper="Hsu, Qi, Brown 2019, arXiv 1909.06335")
@dataclass(frozen=True, kw_only=True)
class SGD(Server):
    """Gradient descent on the clients' mean update (Hsu, Qi, Brown 2019, section 4.2: FedAvgM).

    With the defaults the server adds the mean delta: FedAvg as McMahan et al. 2017 have it.

    Args:
        learning_rate: Times the mean update. Under `fedsgd`, which sends gradients, this is the only learning rate.
        momentum: Share of the last direction that is kept: v <- momentum v + mean update.

    >>> import torch
    >>> SGD().step({"w": torch.tensor([1.0])}, {"w": torch.tensor([0.5])}, {})[0]
    {'w': tensor([1.5000])}
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def step(
        self, weights: Tensors, direction: Tensors, memory: ServerMemory
    ) -> tuple[dict[str, Tensor], ServerMemory]:
        """Weights plus learning rate times velocity; see `Server.step`."""
        if self.momentum:
            last = memory.get("velocity", {})
            direction = {
                name: self.momentum * last[name] + tensor if last else tensor for name, tensor in direction.items()
            }
            memory = {"velocity": direction}
        return {name: weights[name] + self.learning_rate * tensor for name, tensor in direction.items()}, memory
