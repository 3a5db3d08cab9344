"""The grid of cells: every task, protocol, defence stack, attack, control, batch and seed of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from gradiograph.audit.catalogue import label, stack_label
from gradiograph.log import cell_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradiograph.audit.spec import Spec

NONE, MISMATCHED, STOCK, MEAN = "none", "mismatched_update", "stock_film", "mean_film"


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One cell: the components' settings, and the labels that name it."""

    task: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None
    defence: tuple[dict[str, Any], ...] = ()
    attack: dict[str, Any] | None = None
    control: str
    batch: int
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """The labels, as in `rows.csv`."""
        attacked = self.attack is not None
        return {
            "task": label(self.task) if self.task else "",
            "protocol": label(self.protocol) if self.protocol else "",
            "defence": stack_label(list(self.defence)) if attacked else "",
            "attack": label(self.attack) if self.attack else "",
            "control": self.control,
            "batch": self.batch,
            "seed": self.seed,
        }

    @property
    def id(self) -> str:
        """The hash of all labels: the cell's folder."""
        return cell_id(**self.key)


def cells(spec: Spec) -> tuple[GridCell, ...]:
    """All cells, in the order they run: what needs no attack, then the attacks, then their mismatched controls.

    Seeds are the outermost loop, so that an early look at a long run shows all of the grid.
    """
    references = [
        GridCell(control=control, batch=batch, seed=seed)
        for seed, batch, control in product(spec.seeds, range(spec.victims.batches), (STOCK, MEAN))
    ]
    attacked = list(_attacked(spec, NONE))
    return (*references, *attacked, *_attacked(spec, MISMATCHED))


def _attacked(spec: Spec, control: str) -> Iterator[GridCell]:
    for seed, task, protocol, stack in product(spec.seeds, spec.task, spec.protocol, spec.defences):
        smaller = spec.defended if stack else None
        if smaller and smaller.seeds is not None and seed not in smaller.seeds:
            continue
        attacks = smaller.attacks if smaller and smaller.attacks is not None else spec.attacks
        batches = smaller.batches if smaller and smaller.batches is not None else spec.victims.batches
        for attack, batch in product(attacks, range(batches)):
            yield GridCell(
                task=task,
                protocol=protocol,
                defence=tuple(stack),
                attack=attack,
                control=control,
                batch=batch,
                seed=seed,
            )


def attacked_batches(spec: Spec, cell: GridCell) -> int:
    """How many batches are attacked in the part of the grid that holds this cell."""
    limit = spec.defended.batches if cell.defence else None
    return limit or spec.victims.batches
