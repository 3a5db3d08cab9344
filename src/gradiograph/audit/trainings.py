"""The trainings of an audit: every protection, and what it is compared with, each trained once for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.exposure import recorded
from gradiograph.audit.films import masks_of
from gradiograph.audit.judged_masks import judged_cases
from gradiograph.audit.scoring import pseudonym_key
from gradiograph.core.errors import DataProblem, LogProblem, reason
from gradiograph.core.predictions import Predictions
from gradiograph.core.records import pseudonym
from gradiograph.core.tensors import Batch
from gradiograph.federation import Federation, Rounds, Site, pack, predict, predict_masks, train, unpack
from gradiograph.log import ModelCell, cell_id
from gradiograph.utility import BORDERS, measures_beside

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.audit.grid import GridCell
    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Spec
    from gradiograph.core.predictions import Judged
    from gradiograph.core.privacy import PrivacyEvent
    from gradiograph.core.records import Dataset, Record
    from gradiograph.core.rounds import RoundRecord
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors
    from gradiograph.federation import Collect, Training
    from gradiograph.log import Log

FEDERATED, POOLED, ALONE = "federated", "pooled", "site "
"""The arms: the federation itself, all films at one site, one site by itself (its number follows)."""
_BLOCK = 256
_UNKEYED = b""
"""The key of pseudonyms that stay in memory."""


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One training: the components' settings, and which arm it is."""

    task: dict[str, Any]
    protocol: dict[str, Any]
    defence: tuple[dict[str, Any], ...]
    arm: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """The labels, as in the log."""
        return {
            "task": label(self.task),
            "protocol": label(self.protocol),
            "defence": stack_label(list(self.defence)),
            "arm": self.arm,
            "seed": self.seed,
        }

    @property
    def id(self) -> str:
        """The hash of all labels."""
        return cell_id(**self.key)


def planned_trainings(spec: Spec) -> tuple[PlannedTraining, ...]:
    """All trainings of an audit, seed by seed; none where it has no table `utility`."""
    if spec.utility is None:
        return ()
    arms = [(tuple(stack), FEDERATED) for stack in spec.defences]
    arms += [((), POOLED)] if "pooled" in spec.utility.references else []
    arms += [((), f"{ALONE}{site}") for site in range(spec.utility.sites)] if "alone" in spec.utility.references else []
    return tuple(
        PlannedTraining(task=task, protocol=protocol, defence=defence, arm=arm, seed=seed)
        for seed, task, protocol, (defence, arm) in product(spec.seeds, spec.task, spec.protocol, arms)
    )


def federation(made: Plan, planned: PlannedTraining) -> Federation:
    """The federation of a training.

    Raises:
        BadInput: a site has no films or fewer than a mini-batch, or more clients are asked for than there are sites.
    """
    utility, sites = made.utility, made.sites
    chosen = site_records(made)
    empty = [site for site, records in enumerate(chosen) if not records]
    if empty:
        msg = f"utility: site {empty[0]} has no films in split '{utility.train}'. Lower utility.sites = {len(chosen)}."
        raise DataProblem(msg)
    arms = {FEDERATED: chosen, POOLED: [[record for records in chosen for record in records]]}
    parts = arms[planned.arm] if planned.arm in arms else [chosen[int(planned.arm.removeprefix(ALONE))]]
    whole = planned.arm == FEDERATED
    task = made.task(planned.task, planned.seed)
    return Federation(
        task=task,
        sites=tuple(_site(sites, records, masks=task.segments) for records in parts),
        protocol=made.builder.make("protocol", planned.protocol),
        defence=made.chain(planned.protocol, planned.defence),
        server=made.builder.make("server", utility.server),
        rounds=Rounds(
            rounds=utility.rounds,
            clients_per_round=utility.clients_per_round if whole else None,
            min_clients=utility.min_clients if whole else 1,
            keep=tuple(number for number in utility.attack_rounds if number > 1) if whole else (),
        ),
        seed=planned.seed,
    )


def run_training(
    made: Plan,
    log: Log,
    planned: PlannedTraining,
    share: Callable[[float], None],
    collect: Collect | None = None,
) -> None:
    """Train from the last checkpoint on, and write what the model says of the test films, unless the log has it.

    A training that cannot go on, or raises, is written as such: it is a result, and the audit continues.
    """
    if log.trainings.has(planned.id):
        return
    made_up = federation(made, planned)
    stored = log.trainings.checkpoint(planned.id)
    training = unpack(stored, made_up) if stored else None
    reached: list[Training] = [training] if training else []

    def keep(now: Training) -> None:
        log.trainings.keep(planned.id, pack(now))
        reached[:] = [now]
        share(now.round / made.utility.rounds)

    watched = _Watch(made, made_up.task)
    try:
        training = train(made_up, start=training, keep=keep, evaluate=watched.scores, collect=collect)
    except (LogProblem, OSError):
        raise
    except Exception as error:
        history = reached[0].history if reached else ()
        spent = _spent(made, made_up, planned, history, failed=1)
        cell = ModelCell(id=planned.id, **planned.key, failed=reason(error), history=history, events=spent)
        log.trainings.write(cell, None)
        return
    judge = partial(_judged, made_up.task, training.state, pseudonym_key(log.directory))
    predictions = judge(made.sites, judged_records(made))
    foreign = judge(made.foreign.dataset, made.foreign.records) if made.foreign else None
    spent = _spent(made, made_up, planned, training.history)
    cell = ModelCell(id=planned.id, **planned.key, history=training.history, events=spent)
    log.trainings.write(cell, predictions, foreign)


def _judged(
    task: Task, state: Tensors, key: bytes, films: Dataset, records: Sequence[Record], *, borders: bool = True
) -> Judged:
    """What the state says of these films, held against what they show."""
    patients = [pseudonym(key, record.patient) for record in records]
    sites = [record.client for record in records]
    if task.segments:
        guesses = predict_masks(task, state, _images(films, records))
        truths = (masks_of(films, records[start : start + _BLOCK]) for start in range(0, len(records), _BLOCK))
        pairs = ((guess.numpy(), truth) for guess, truth in zip(guesses, truths, strict=True))
        return judged_cases(pairs, patients, sites, task.num_classes, borders=borders)
    return Predictions(
        labels=np.array([record.label for record in records], dtype=np.int64),
        probabilities=predict(task, state, _images(films, records)).numpy(),
        patients=np.array(patients),
        sites=np.array(sites, dtype=np.int64),
    )


def judged_records(made: Plan) -> tuple[Record, ...]:
    """The films that the models are judged on: the test split without the patients who are attacked."""
    attacked = _attacked(made)
    return tuple(r for r in made.sites.select(split=made.utility.test) if r.patient not in attacked)


def site_records(made: Plan) -> list[list[Record]]:
    """The films that each site trains on: those of the training split, without the patients who are attacked."""
    attacked, films = _attacked(made), made.sites.select(split=made.utility.train)
    own = [record for record in films if record.patient not in attacked]
    return [[record for record in own if record.client == site] for site in range(made.utility.sites)]


def training_of(made: Plan, cell: GridCell) -> PlannedTraining:
    """The training whose later round a cell attacks."""
    return next(
        planned
        for planned in made.trainings
        if (planned.arm, planned.seed) == (FEDERATED, cell.seed)
        and (planned.task, planned.protocol, planned.defence) == (cell.task, cell.protocol, cell.defence)
    )


def state_before(made: Plan, log: Log, cell: GridCell, task: Task) -> Tensors | None:
    """Weights and buffers before the cell's round; None where the training never came to it."""
    if cell.round == 1:
        return made.captured.state if made.captured else task.state()
    planned = training_of(made, cell)
    stored = log.trainings.checkpoint(planned.id)
    return unpack(stored, federation(made, planned)).kept.get(cell.round) if stored else None


def _spent(
    made: Plan, trained: Federation, planned: PlannedTraining, history: Sequence[RoundRecord], failed: int = 0
) -> tuple[PrivacyEvent, ...]:
    """The privacy events of a federated training; the arms that it is compared with are not protected."""
    if planned.arm != FEDERATED:
        return ()
    return recorded(trained.defence, site_records(made), trained.protocol, history, failed)


def _attacked(made: Plan) -> set[str]:
    return {record.patient for batch in made.films.victims for record in batch.records}


def _site(sites: Dataset, records: Sequence[Record], *, masks: bool) -> Site:
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(r.patient for r in records))}
    patients = torch.tensor([numbers[record.patient] for record in records], dtype=torch.int64)

    def read() -> Batch:
        labels = torch.tensor([record.label for record in records], dtype=torch.int64)
        targets = torch.from_numpy(masks_of(sites, records)) if masks else labels
        return Batch(torch.from_numpy(sites.read([record.index for record in records])), targets, patients)

    return Site(num_examples=len(records), read=read)


def _images(films: Dataset, records: Sequence[Record]) -> Iterator[Tensor]:
    """The films, block by block."""
    for start in range(0, len(records), _BLOCK):
        yield torch.from_numpy(films.read([record.index for record in records[start : start + _BLOCK]]))


class _Watch:
    """Scores a state on the watched films after every round: all together, and site by site."""

    def __init__(self, made: Plan, task: Task) -> None:
        watch = made.utility.watch
        self._records = made.sites.select(split=watch) if watch else ()
        self._made, self._task = made, task

    def scores(self, state: Tensors) -> Mapping[str, float | None]:
        if not self._records:
            return {}
        name = self._made.utility.score
        found = _judged(self._task, state, _UNKEYED, self._made.sites, self._records, borders=name in BORDERS)
        measure = measures_beside(name)[name]
        by_site = {f"site {site}": measure(found.at(site)) for site in range(self._made.utility.sites)}
        return {"pooled": measure(found), **by_site}
