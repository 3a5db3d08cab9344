"""What a federation is made of: the sites, what they train, and by which rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradiograph.core.client import client_update
from gradiograph.core.errors import BadSetting
from gradiograph.core.tensors import Batch, Update

if TYPE_CHECKING:
    from gradiograph.core.defence import Chain
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.server import Server
    from gradiograph.core.task import Task

Client = Callable[..., Update | None]
"""What a client does in a round, as `core.client.client_update`; None is a client that sends nothing."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One client: how many films it has, and the way to read them, so that a thousand fit into memory.

    Attributes:
        num_examples: At least 1.
        read: Its films and targets, the same in every round.
    """

    num_examples: int
    read: Callable[[], Batch] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How long a federation trains, and with whom.

    Attributes:
        rounds: How many, at least 1.
        clients_per_round: How many clients are drawn in each round, without replacement; a share of them where it is
            a float in (0, 1]; None is all. At least one is drawn.
        min_clients: With fewer usable updates in a round the training fails.
        keep: Rounds, from 1, whose state before the round is kept for those who read the updates later.
    """

    rounds: int
    clients_per_round: int | float | None = None
    min_clients: int = 1
    keep: tuple[int, ...] = ()

    def drawn(self, clients: int) -> int:
        """How many of this many clients are drawn in a round.

        >>> [Rounds(rounds=1, clients_per_round=c).drawn(10) for c in (None, 3, 0.25, 0.01)]
        [10, 3, 2, 1]
        """
        asked = self.clients_per_round
        if asked is None:
            return clients
        return max(1, round(asked * clients)) if isinstance(asked, float) else asked


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Sites that train one model together. Everything that happens in it follows from these values.

    Raises:
        BadSetting: more clients are asked for than there are, or a kept round is none.
    """

    task: Task
    sites: tuple[Site, ...]
    protocol: Protocol
    defence: Chain
    server: Server
    rounds: Rounds
    seed: int
    client: Client = client_update

    def __post_init__(self) -> None:
        drawn = self.rounds.drawn(len(self.sites))
        if not self.rounds.min_clients <= drawn <= len(self.sites):
            msg = (
                f"{drawn} clients a round of {len(self.sites)} sites, min_clients = {self.rounds.min_clients}: "
                "there must be as many sites as clients a round, and as many clients a round as min_clients."
            )
            raise BadSetting(msg)
        foreign = [number for number in self.rounds.keep if not 1 <= number <= self.rounds.rounds]
        if foreign:
            msg = f"Round {foreign[0]} cannot be kept: the rounds are 1 to {self.rounds.rounds}."
            raise BadSetting(msg)
        for site in self.sites:
            self.protocol.num_steps(site.num_examples)
