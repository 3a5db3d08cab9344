"""The grid of cells: every task, protocol, defence stack, attack, control, batch, seed and round of an audit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from gradiograph.audit.catalogue import label, stack_label
from gradiograph.log import cell_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gradiograph.audit.spec import Spec

NONE, MISMATCHED, STOCK, MEAN = "none", "mismatched_update", "stock_film", "mean_film"
ORACLE = "ceiling_"
"""How the controls begin that see the truth; none of them counts as a result of the attack."""
TRUTH, SPECTRUM = f"{ORACLE}truth", f"{ORACLE}spectrum"
MEMBERS, STRANGERS = "membership", "membership_mismatched_update"
"""The cells that ask of films whether they took part: in their own round, and in one that they took no part in."""


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
    round: int = 1

    @property
    def key(self) -> dict[str, Any]:
        """The labels, as in `rows.csv`."""
        has_update = self.protocol is not None
        return {
            "task": label(self.task) if self.task else "",
            "protocol": label(self.protocol) if self.protocol else "",
            "defence": stack_label(list(self.defence)) if has_update else "",
            "attack": label(self.attack) if self.attack else "",
            "control": self.control,
            "batch": self.batch,
            "seed": self.seed,
            "round": self.round,
        }

    @property
    def id(self) -> str:
        """The hash of all labels: the cell's folder."""
        # The first round is not named: it is what an audit without training attacks.
        return cell_id(**{name: value for name, value in self.key.items() if (name, value) != ("round", 1)})


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
    rounds = spec.utility.attack_rounds if spec.utility else [1]
    for seed, task, protocol, stack in product(spec.seeds, spec.task, spec.protocol, spec.defences):
        smaller = spec.defended if stack else None
        if smaller and smaller.seeds is not None and seed not in smaller.seeds:
            continue
        attacks = smaller.attacks if smaller and smaller.attacks is not None else spec.attacks
        batches = smaller.batches if smaller and smaller.batches is not None else spec.victims.batches
        for attack, batch, number in product(attacks, range(batches), rounds):
            yield GridCell(
                task=task,
                protocol=protocol,
                defence=tuple(stack),
                attack=attack,
                control=control,
                batch=batch,
                seed=seed,
                round=number,
            )


def ceiling_cells(spec: Spec, searches: Collection[str]) -> tuple[GridCell, ...]:
    """The oracle controls of the attacked cells that the ceiling covers; none where the audit asks for no ceiling.

    It covers the first round only.

    Args:
        spec: The audit.
        searches: Labels of the attacks that can be begun at given images.
    """
    ceiling = spec.ceiling
    if ceiling is None:
        return ()
    seeds = spec.seeds[:1] if ceiling.seeds is None else ceiling.seeds
    attacked = [cell for cell in _attacked(spec, NONE) if cell.round == 1]
    covered = [cell for cell in attacked if cell.batch < ceiling.batches and cell.seed in seeds]
    controls = [ceiling_control(blend) for blend in ceiling.blends]
    starts = [TRUTH, *controls] if controls else []
    searched = [cell for cell in covered if cell.key["attack"] in searches]
    begun = [replace(cell, control=control) for cell, control in product(searched, starts)]
    bare = {spectrum.id: spectrum for spectrum in (replace(c, control=SPECTRUM, attack=None) for c in covered)}
    return (*bare.values(), *begun) if ceiling.jacobian else tuple(begun)


def membership_cells(spec: Spec) -> tuple[GridCell, ...]:
    """The cells that ask for members of every attacked update, and of another in its place; none where not asked."""
    if spec.membership is None:
        return ()
    bare = {cell.id: cell for cell in (replace(c, attack=None) for c in _attacked(spec, NONE))}
    return tuple(replace(cell, control=control) for control in (MEMBERS, STRANGERS) for cell in bare.values())


def ceiling_control(blend: float) -> str:
    """The control whose search begins at the truth blended with this share of another film.

    >>> ceiling_control(0.1)
    'ceiling_10'
    """
    return f"{ORACLE}{round(100 * blend)}"


def attacked_batches(spec: Spec, cell: GridCell) -> int:
    """How many batches are attacked in the part of the grid that holds this cell."""
    limit = spec.defended.batches if cell.defence else None
    return limit or spec.victims.batches
