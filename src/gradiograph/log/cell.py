"""A cell of the grid: one attack or control on one victim batch under one defence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


def cell_id(**key: object) -> str:
    """The name of a cell's folder: 16 hexadecimal digits of a hash of all its parts.

    Args:
        key: Everything that tells this cell from another; values that JSON cannot write count as their `str`.

    >>> cell_id(attack="rog", seed=7) == cell_id(seed=7, attack="rog"), cell_id(seed=7) == cell_id(seed=8)
    (True, False)
    """
    text = json.dumps(key, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one cell was and how it went; its rows and pictures lie beside it.

    Attributes:
        id: See `cell_id`.
        task: Label of the task; so for protocol, defence and attack. Controls without an attack have "" for both.
        control: "none" for the attack itself, else "mismatched_update", "stock_film" or "mean_film".
        batch: Index of the victim batch.
        seed: The seed of the run.
        seconds: Wall time of the attack.
        num_bytes: Size of the update on the wire; 0 for controls without an update.
        flags: Such as "truncated" and "approximate".
        objective: The attack's objective after each step.
        round: The round of the training whose update was attacked, from 1.
        failed: Why there is no result; empty where there is one, and only then there are rows and images.
    """

    id: str
    task: str
    protocol: str
    defence: str
    attack: str
    control: str
    batch: int
    seed: int
    seconds: float = 0.0
    num_bytes: int = 0
    flags: tuple[str, ...] = ()
    objective: tuple[float, ...] = ()
    round: int = 1
    failed: str = ""

    @property
    def place(self) -> tuple[str | int, ...]:
        """The key that sorts cells."""
        grid = (self.task, self.protocol, self.defence, self.attack, self.control)
        return (*grid, self.round, self.batch, self.seed, self.id)
