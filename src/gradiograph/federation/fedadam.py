"""Adam on the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.core.server import Server, ServerMemory

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Tensors


@register("server", "fedadam", paper="Reddi et al. 2021, arXiv 2003.00295")
@dataclass(frozen=True, kw_only=True)
class FedAdam(Server):
    """Adam on the clients' mean update, without bias correction (Reddi et al. 2021, algorithm 2).

    Args:
        learning_rate: eta, the server's.
        beta1: Share of the first moment that is kept.
        beta2: Share of the second moment that is kept.
        tau: The degree of adaptivity, added to the root of the second moment, which starts at tau squared.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Field(gt=0)] = 1e-3

    def step(
        self, weights: Tensors, direction: Tensors, memory: ServerMemory
    ) -> tuple[dict[str, Tensor], ServerMemory]:
        """Weights plus eta m / (sqrt(v) + tau); see `Server.step`."""
        last = memory or {
            "first": {name: torch.zeros_like(tensor) for name, tensor in direction.items()},
            "second": {name: torch.full_like(tensor, self.tau**2) for name, tensor in direction.items()},
        }
        first = {n: self.beta1 * last["first"][n] + (1 - self.beta1) * d for n, d in direction.items()}
        second = {n: self.beta2 * last["second"][n] + (1 - self.beta2) * d.square() for n, d in direction.items()}
        moved = {n: weights[n] + self.learning_rate * first[n] / (second[n].sqrt() + self.tau) for n in direction}
        return moved, {"first": first, "second": second}
