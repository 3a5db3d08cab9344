"""Where a training stands: all that the next round needs, and how the rounds went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradiograph.core.rounds import RoundRecord
from gradiograph.core.server import ServerMemory

if TYPE_CHECKING:
    from gradiograph.core.tensors import Tensors
    from gradiograph.federation.federation import Federation


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training after some rounds.

    Attributes:
        state: Weights and buffers.
        memory: The server optimiser's.
        history: One record a round.
        kept: States before the rounds that were to be kept, by round.
    """

    state: Tensors = field(repr=False)
    memory: ServerMemory = field(default_factory=dict, repr=False)
    history: tuple[RoundRecord, ...] = ()
    kept: Mapping[int, Tensors] = field(default_factory=dict, repr=False)

    @property
    def round(self) -> int:
        """Rounds done."""
        return len(self.history)


def untrained(federation: Federation) -> Training:
    """The training before its first round: the task's own weights."""
    return Training(state=federation.task.state())
