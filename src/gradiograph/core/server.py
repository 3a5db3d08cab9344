"""The interface of a server's optimiser: what it makes of the clients' mean update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiograph.core.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

ServerMemory = Mapping[str, Tensors]
"""What an optimiser keeps from round to round, such as its momentum: by quantity, then by parameter name."""


@dataclass(frozen=True, kw_only=True)
class Server(ABC):
    """An optimiser on the server, a pure function. A subclass is a frozen dataclass of settings."""

    @abstractmethod
    def step(
        self, weights: Tensors, direction: Tensors, memory: ServerMemory
    ) -> tuple[dict[str, Tensor], ServerMemory]:
        """The weights after a round.

        Args:
            weights: The trainable parameters before it; not changed.
            direction: The way down, same names and shapes: the clients' mean delta, or minus their mean gradient.
            memory: What the last round returned; empty before the first.

        Returns:
            The weights, and the memory for the next round.
        """
