"""What a run will cost: each attack's seconds per step, timed on one victim batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from gradiograph.audit.client import client_update, observe
from gradiograph.audit.grid import NONE
from gradiograph.audit.plan import build_attack
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
    """Time a step of every attack on every task and protocol, undefended; defences cost about the same.

    Random films stand in for the victims: only their number and size matter.
    """
    attacked = [cell for cell in plan.cells if cell.control == NONE]
    kinds: dict[tuple[str, str, str], list[GridCell]] = {}
    for cell in attacked:
        kinds.setdefault((cell.key["task"], cell.key["protocol"], cell.key["attack"]), []).append(cell)
    return tuple(
        Cost(task=task, protocol=protocol, attack=attack, cells=len(cells), seconds=_seconds(plan, cells[0]))
        for (task, protocol, attack), cells in kinds.items()
    )


def _seconds(plan: Plan, cell: GridCell) -> float:
    task = plan.task(cell.task or {}, cell.seed)
    protocol = plan.builder.make("protocol", cell.protocol or {})
    defence = plan.builder.chain(cell.defence)
    size = plan.spec.victims.size
    images = torch.rand(size, *task.image_shape, generator=stream(0, "cost"))
    batch = Batch(images, torch.arange(size) % task.num_classes)
    update = client_update(task, task.state(), batch, protocol, defence, 0)
    observation = observe(task, task.state(), update, protocol, defence, plan.spec.threat, batch.targets)
    attack = build_attack(plan.builder, cell.attack or {})

    def seconds(**changes: int) -> float:
        return replace(attack, **changes)(observation, stream(0, "cost"), lambda _: None).seconds

    settings = {field.name: getattr(attack, field.name) for field in fields(attack)}
    if "steps" not in settings:
        return seconds()
    once, twice = seconds(steps=1), seconds(steps=2)
    return once + max(twice - once, 0.0) * (int(settings["steps"]) - 1)
