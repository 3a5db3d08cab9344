"""What a run will cost: each attack's seconds per step, timed on one victim batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from gradiograph.audit.ceiling import sight
from gradiograph.audit.client import client_rounds, observe
from gradiograph.audit.grid import MISMATCHED, SPECTRUM, TRUTH
from gradiograph.audit.plan import build_attack
from gradiograph.audit.spectrum import updates
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from gradiograph.audit.grid import GridCell
    from gradiograph.audit.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The estimate for one attack in one set-up: its cells, and the seconds of each."""

    task: str
    protocol: str
    attack: str
    cells: int
    seconds: float


def estimate(plan: Plan) -> tuple[Cost, ...]:
    """Time a step of every search, and all of every other attack, undefended; defences cost about the same.

    Public films stand in for the victims: attacks that solve are done with films sooner than with noise. The ceiling's
    searches count as the attack's; its spectra have no attack and a line of their own.
    """
    searched = [cell for cell in plan.cells if cell.attack and cell.control not in (MISMATCHED, TRUTH)]
    spectra = [cell for cell in plan.cells if cell.control == SPECTRUM]
    kinds: dict[tuple[str, str, str], list[GridCell]] = {}
    for cell in (*searched, *spectra):
        kinds.setdefault((cell.key["task"], cell.key["protocol"], cell.key["attack"]), []).append(cell)
    return tuple(
        Cost(
            task=task,
            protocol=protocol,
            attack=attack or "(ceiling: spectrum)",
            cells=len(cells),
            seconds=_seconds(plan, cells[0]) if attack else _spectrum_seconds(plan, cells[0]),
        )
        for (task, protocol, attack), cells in kinds.items()
    )


def _spectrum_seconds(plan: Plan, cell: GridCell) -> float:
    """The time of the updates that the spectra of one batch replay."""
    see, size = sight(plan, cell), plan.spec.batch_films
    images = _stand_ins(plan, size)
    see(images)
    started = perf_counter()
    see(images)
    count = plan.spec.ceiling.jacobian if plan.spec.ceiling else 0
    return (perf_counter() - started) * size * updates(count)


def _stand_ins(plan: Plan, size: int) -> torch.Tensor:
    """So many public films (size, C, H, W), over again where there are fewer."""
    records = plan.films.public.records
    return torch.from_numpy(plan.films.public.dataset.read([records[i % len(records)].index for i in range(size)]))


def _seconds(plan: Plan, cell: GridCell) -> float:
    task = plan.task(cell.task or {}, cell.seed)
    protocol = plan.builder.make("protocol", cell.protocol or {})
    defence = plan.chain(cell.protocol or {}, cell.defence)
    size = plan.spec.batch_films
    images = _stand_ins(plan, size)
    targets = torch.arange(size * prod(task.target_shape)).reshape(size, *task.target_shape) % task.num_classes
    batch = Batch(images, targets)
    attack = build_attack(plan.builder, cell.attack or {})
    task, sent = attack.plant(task, task.state())
    ((state, update),) = client_rounds(task, sent, batch, protocol, defence, 0, clients=plan.spec.threat.clients)
    observation = observe(task, state, update, protocol, defence, plan.spec.threat, batch.targets)

    def seconds(**changes: int) -> float:
        return replace(attack, **changes)(observation, stream(0, "cost"), lambda _: None).seconds

    steps = vars(attack).get("steps")
    if steps is None or attack.started_at(batch.images) is None:  # it solves: steps are the least of its work
        return seconds()
    once, twice = seconds(steps=1), seconds(steps=2)
    return once + max(twice - once, 0.0) * (int(steps) - 1)
