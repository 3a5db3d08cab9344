"""How the rounds of a training went. Runs without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one client's round ended.

    Attributes:
        client: Its index among the sites.
        num_bytes: What it sent; 0 where it sent nothing.
        refused: Why its update was left out; empty where it counts.
    """

    client: int
    num_bytes: int
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """How one round went.

    Attributes:
        number: From 1.
        outcomes: One for each client that was drawn.
        bytes_down: What the server sent to them: weights and buffers, uncompressed.
        seconds: Wall time, evaluation excluded.
        scores: What the evaluation after the round gave, by name; None is undefined.
    """

    number: int
    outcomes: tuple[Outcome, ...]
    bytes_down: int
    seconds: float
    scores: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def bytes_up(self) -> int:
        """What the clients sent, under their defence."""
        return sum(outcome.num_bytes for outcome in self.outcomes)

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> RoundRecord:
        """The record whose `dataclasses.asdict` went through JSON."""
        return cls(**{**entry, "outcomes": tuple(Outcome(**outcome) for outcome in entry["outcomes"])})
