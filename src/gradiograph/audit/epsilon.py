"""The empirical lower bound on epsilon of an audit's protections, from trainings that serve nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch

from gradiograph.accounting import FEWEST_CANARIES, LowerBound, account, lower_bound, train_with_canaries
from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.plan import plan
from gradiograph.audit.privacy import exposures
from gradiograph.audit.trainings import site_records
from gradiograph.core.errors import BadSetting
from gradiograph.core.privacy import Exposure
from gradiograph.core.tensors import Batch
from gradiograph.protocols.local_training import LocalTraining

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Config, Spec
    from gradiograph.core.defence import Defence
    from gradiograph.core.privacy import PrivacyEvent
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task

FILMS = 32
"""Beside the canaries, at most: to whom looks for canaries, what the films do is noise."""
LARGEST_STEP = 4 * 2**30
"""Bytes that the gradients of one step's examples may take."""


@dataclass(frozen=True, kw_only=True)
class EpsilonAudit:
    """What is claimed of one protection, and what canaries show.

    Attributes:
        task: As in the grid.
        protocol: As in the grid.
        defence: As in the grid.
        unit: Whose presence the epsilon hides.
        claimed: Epsilon as the audit file states it; where it does not, `accounted`.
        accounted: Epsilon of the training with canaries, by the accountants.
        rounds: Of that training.
        bound: What its canaries show, at the delta of the claim.
    """

    task: str
    protocol: str
    defence: str
    unit: str
    claimed: float
    accounted: float
    rounds: int
    bound: LowerBound

    @property
    def refuted(self) -> bool:
        """Whether the bound is above the claim."""
        return self.bound.epsilon > self.claimed


def audit_epsilon(
    spec: Spec, folder: Path, *, canaries: int = FEWEST_CANARIES, confidence: float = 0.95
) -> Iterator[EpsilonAudit]:
    """For every task, protocol and protection that clips each example: one training with canaries, and what it proves.

    It has the noise, the sampling rate, the steps and the rounds of the site whose budget is the largest, on a few
    films of different patients, with canaries in place of the others. The audit's own trainings and attacks have no
    part in it.

    Args:
        spec: The audit.
        folder: What its paths are relative to.
        canaries: At least 1000.
        confidence: Of each bound, in (0, 1).

    Raises:
        BadInput: the audit is not valid or has no such protection, or the gradients of a step need too much memory.
    """
    made = plan(spec, folder)
    stacks = [stack for stack in spec.defences if made.builder.chain(stack).example_stage is not None]
    if not stacks:
        msg = "No protection of this audit clips each example: there is no epsilon to bound. Add 'dp_sgd' to defences."
        raise BadSetting(msg)
    if made.segments:
        msg = "Canaries are labels of their own, which a task that segments has none of. Audit a task that classifies."
        raise BadSetting(msg)
    for task, protocol, stack in product(spec.task, spec.protocol, stacks):
        yield _audit(made, task, protocol, stack, canaries, confidence)


def _audit(
    made: Plan, task_config: Config, config: Config, stack: list[Config], canaries: int, confidence: float
) -> EpsilonAudit:
    seed, protocol = made.spec.seeds[0], made.builder.make("protocol", config)
    task, chain = made.task(task_config, seed), made.chain(config, stack)
    real = max((_event(chain.example_stage, one) for one in exposures(made, protocol)), key=_epsilon)
    batch = _films(made)
    alike = _alike(protocol, real, len(batch) + canaries)
    _require_memory(task, alike, len(batch) + canaries)
    spent = replace(_event(chain.example_stage, _exposure(alike, len(batch) + canaries, real.rounds)), delta=real.delta)
    run = train_with_canaries(task, alike, chain, batch, canaries=canaries, rounds=real.rounds, seed=seed)
    accounted = _epsilon(spent)
    return EpsilonAudit(
        task=label(task_config),
        protocol=label(config),
        defence=stack_label(stack),
        unit=real.unit,
        claimed=accounted if real.claimed is None else real.claimed,
        accounted=accounted,
        rounds=real.rounds,
        bound=lower_bound(run.scores, run.included, delta=real.delta, confidence=confidence),
    )


def _event(stage: Defence | None, exposure: Exposure) -> PrivacyEvent:
    event = stage.privacy(exposure) if stage is not None else None
    if event is None:
        msg = "A protection that clips each example has no noise, so nothing is claimed. Give it a noise_multiplier."
        raise BadSetting(msg)
    return event


def _epsilon(event: PrivacyEvent) -> float:
    """Of the unit, by the accountants."""
    (one,) = account([event])
    return one.epsilon


def _exposure(protocol: Protocol, examples: int, rounds: int) -> Exposure:
    """How the films and the canaries are used, each of a patient of its own."""
    return Exposure(
        site="films and canaries",
        images=examples,
        patients=examples,
        sample_rate=protocol.sample_rate(examples),
        steps=protocol.num_steps(examples),
        rounds=rounds,
    )


def _alike(protocol: Protocol, event: PrivacyEvent, examples: int) -> Protocol:
    """The protocol with the sampling rate and the steps of the event, on this many examples."""
    if not isinstance(protocol, LocalTraining):
        return protocol
    size = max(1, round(event.sample_rate * examples))
    return replace(protocol, batch_size=size, local_steps=event.steps, local_epochs=None, augmentation=())


def _films(made: Plan) -> Batch:
    """Films that train, of different patients; without a training, those of the first attacked batch."""
    dataset, victims = made.films.dataset, made.films.victims[0].records
    records = [record for site in site_records(made) for record in site] if made.spec.utility else victims
    chosen = list({record.patient: record for record in records}.values())[:FILMS]
    images = torch.from_numpy(dataset.read([record.index for record in chosen]))
    return Batch(images, torch.tensor([record.label for record in chosen]), torch.arange(len(chosen)))


def _require_memory(task: Task, protocol: Protocol, examples: int) -> None:
    state = task.state()
    weights = sum(state[name].numel() for name in task.trainable)
    needed = 4 * weights * protocol.sample_rate(examples) * examples
    if needed > LARGEST_STEP:
        msg = (
            f"task '{task.name}' trains {weights} weights: the gradients of a step's {examples} examples and canaries "
            f"take {needed / 2**30:.0f} GiB. Take a smaller network or smaller mini-batches; the canaries test the "
            "mechanism, not the network."
        )
        raise BadSetting(msg)
