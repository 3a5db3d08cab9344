"""One cell: its images, scored and written whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradiograph.audit.ceiling import search_near_truth, visible_films
from gradiograph.audit.client import client_rounds, observe
from gradiograph.audit.device import from_device, to_device
from gradiograph.audit.grid import (
    MEAN,
    MEMBERS,
    MISMATCHED,
    NONE,
    ORACLE,
    SPECTRUM,
    STOCK,
    STRANGERS,
    GridCell,
    attacked_batches,
)
from gradiograph.audit.judges import Attacked
from gradiograph.audit.membership import Asker, membership
from gradiograph.audit.plan import Plan, build_attack
from gradiograph.audit.scoring import Found, pseudonym_key, record_names, to_rows
from gradiograph.audit.trainings import state_before
from gradiograph.audit.victims import mismatched_batch
from gradiograph.core.errors import LogProblem, NotMeasured, reason
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.log import Cell, Log
from gradiograph.metrics import mask_dice

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.audit.client import Round
    from gradiograph.audit.judges import Judges
    from gradiograph.core.attack import Observation
    from gradiograph.core.defence import Chain
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.records import Row
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Update

Share = Callable[[float], None]
"""Called with the share of a cell that is done, in [0, 1]."""


def write_victims(made: Plan, log: Log) -> None:
    """Put the originals into the log, each batch whole."""
    key, classes = pseudonym_key(log.directory), made.films.dataset.classes
    for batch, victims in enumerate(made.films.victims):
        if not log.has_victims(batch):
            log.write_victims(batch, record_names(victims, key), [classes[i] for i in victims.labels], victims.read())


def run_cell(made: Plan, log: Log, judged: Judges, cell: GridCell, share: Share) -> None:
    """Run a cell, score it and write it, unless the log has it.

    A cell that raises is written with its reason: it is not measured, and the audit goes on. Only where the run's
    folder or the films cannot be used does the run end.
    """
    if log.has_cell(cell.id):
        return
    try:
        asks = cell.control in (MEMBERS, STRANGERS)
        entry, rows, found = _asked(made, log, judged, cell) if asks else _scored(made, log, judged, cell, share)
    except (LogProblem, OSError):
        raise
    except Exception as error:
        log.write_cell(replace(make_entry(cell), failed=reason(error)), (), None)
    else:
        shown = (found.images, found.masks) if found else (None, None)
        log.write_cell(entry, rows, *shown)


def _scored(made: Plan, log: Log, judged: Judges, cell: GridCell, share: Share) -> tuple[Cell, tuple[Row, ...], Found]:
    """What a cell is, its values and what it shows."""
    victims = made.films.victims[cell.batch]
    names = record_names(victims, pseudonym_key(log.directory))
    more: tuple[Row, ...] = ()
    if cell.control == SPECTRUM:
        shown = visible_films(made, cell, judged.context.mean_film, share)
        found, more = Found(shown.images.numpy()), to_rows(shown.scores, names, cell.key)
        entry = replace(make_entry(cell), seconds=shown.seconds, flags=shown.flags)
    else:
        found, entry = _found(made, log, judged, cell, share)
    if found.masks is not None:
        more = to_rows([mask_dice(found.masks, victims.read_masks())], names, cell.key)
    attacked = Attacked.of(made.films, cell.batch, names)
    rows = (*judged.rows(torch.from_numpy(found.images), attacked, cell.key), *more)
    broken = next((row for row in rows if not isfinite(row.value)), None)
    if broken:
        msg = f"The metric '{broken.metric}' is {broken.value}: the attack's images are not finite."
        raise NotMeasured(msg)
    return entry, rows, found


def _asked(made: Plan, log: Log, judged: Judges, cell: GridCell) -> tuple[Cell, tuple[Row, ...], None]:
    """What a cell tells of its films' membership, in their own round or in that of another batch; it shows nothing."""
    started, victims, source = perf_counter(), made.films.victims[cell.batch], cell
    if cell.control == STRANGERS:
        other = mismatched_batch(cell.batch, made.spec.victims.batches, attacked_batches(made.spec, cell))
        source = replace(cell, batch=other)
    protocol, defence = _client(made, cell)
    task, ((state, update), *_), _ = _rounds(made, log, source, protocol, defence)
    # At the first round all protocols and protections begin with the same weights.
    trained = (cell.key["protocol"], cell.key["defence"], cell.round) if cell.round > 1 else ()
    place = ("membership", cell.key["task"], cell.seed, *trained)
    asker = judged.context.cache.get(place)
    if not isinstance(asker, Asker):
        asker = judged.context.cache[place] = Asker.of(task, state, made.films.public, cell.seed)
    limit = made.spec.membership.films if made.spec.membership else 0
    scores = membership(asker, update, victims, made.films, limit, cell.seed)
    rows = to_rows(scores, record_names(victims, pseudonym_key(log.directory)), cell.key)
    return replace(make_entry(cell), seconds=perf_counter() - started), rows, None


def can_run(made: Plan, log: Log, cell: GridCell) -> bool:
    """Whether there is something to attack: the training of a later round may have failed before it."""
    if cell.round == 1:
        return True
    task = made.task(cell.task or {}, cell.seed)
    return state_before(made, log, cell, task) is not None


def _found(made: Plan, log: Log, judged: Judges, cell: GridCell, share: Share) -> tuple[Found, Cell]:
    """What the cell shows for each victim, in the victims' order, and how it came about."""
    entry = make_entry(cell)
    truth = made.films.victims[cell.batch].read()
    if cell.control == STOCK:
        stock = made.films.stock_films(cell.batch, cell.seed)
        return Found(stock.read(), stock.read_masks() if made.reads_masks else None), entry
    if cell.control == MEAN:
        mean, mask = judged.context.mean_film.numpy(), made.films.usual_mask() if made.reads_masks else None
        masks = None if mask is None else np.broadcast_to(mask, (len(truth), *mask.shape)).copy()
        return Found(np.broadcast_to(mean, truth.shape).copy(), masks), entry
    if cell.control == MISMATCHED:
        other = mismatched_batch(cell.batch, made.spec.victims.batches, attacked_batches(made.spec, cell))
        source = replace(cell, control=NONE, batch=other).id
        origin, images = log.cell(source), log.images(source)
        if images is None:
            msg = f"The attack on batch {other}, which this control reads, has no images. {origin.failed}"
            raise NotMeasured(msg.strip())
        entry = replace(entry, seconds=origin.seconds, num_bytes=origin.num_bytes, flags=origin.flags)
        return Found(images, log.masks(source)).paired(truth), entry
    found, entry = _attack(made, log, cell, entry, share)
    return found.paired(truth), entry


def make_entry(cell: GridCell) -> Cell:
    """A cell as the log has it, without a result."""
    return Cell(id=cell.id, **cell.key, seconds=0.0, num_bytes=0, flags=(), objective=())


def _attack(made: Plan, log: Log, cell: GridCell, entry: Cell, share: Share) -> tuple[Found, Cell]:
    observation = _observation(made, log, cell)
    if cell.control.startswith(ORACLE):
        found = search_near_truth(made, cell, observation, share)
    else:
        attack = build_attack(made.builder, cell.attack or {})
        found = attack(observation, stream(cell.seed, "attack", cell.key["attack"]), share)
    (_, seen), *_ = observation.rounds
    found = from_device(found)
    masks = found.targets.argmax(dim=1).numpy() if made.reads_masks and found.targets is not None else None
    return Found(found.images.numpy(), masks), replace(
        entry,
        seconds=found.seconds,
        num_bytes=seen.num_bytes // made.spec.threat.clients,
        flags=tuple(found.flags),
        objective=tuple(found.objective),
    )


def _observation(made: Plan, log: Log, cell: GridCell) -> Observation:
    """What the server holds of this cell's rounds."""
    protocol, defence = _client(made, cell)
    task, rounds, targets = _rounds(made, log, cell, protocol, defence)
    (state, update), *later = to_device(task, rounds, made.spec.device)
    public = None if made.segments else made.films.public_examples
    return observe(task, state, update, protocol, defence, made.spec.threat, targets, tuple(later), public)


def _client(made: Plan, cell: GridCell) -> tuple[Protocol, Chain]:
    """What the cell's clients do in a round, and what protects it."""
    return made.builder.make("protocol", cell.protocol or {}), made.chain(cell.protocol or {}, cell.defence)


def _rounds(
    made: Plan, log: Log, cell: GridCell, protocol: Protocol, defence: Chain
) -> tuple[Task, tuple[Round, ...], Tensor]:
    """The task as it was sent, the cell's rounds, and the targets behind them.

    The rounds are a client's, made here, or the captured one (batch 0 of a captured audit). At a later round the client
    joins the training of this cell's protection in it: the state is the trained one.
    """
    task = made.task(cell.task or {}, cell.seed)
    start = state_before(made, log, cell, task)
    if start is None:
        msg = f"The training that cell {cell.id} attacks never came to round {cell.round}. Start a new run."
        raise LogProblem(msg)
    if cell.attack:
        task, start = build_attack(made.builder, cell.attack).plant(task, start)
    targets = made.films.victims[cell.batch].targets(task)
    if made.captured and cell.batch == 0:
        rounds: tuple[Round, ...] = ((start, made.captured.update),)
    else:
        patients = torch.arange(len(targets))  # no patient is twice among the victims
        batch = Batch(torch.from_numpy(made.films.victims[cell.batch].read()), targets, patients)
        names = (cell.batch,) if cell.round == 1 else (cell.batch, "after", cell.round)
        rounds = client_rounds(
            task,
            start,
            batch,
            protocol,
            defence,
            cell.seed,
            *names,
            rounds=made.spec.victims.rounds,
            clients=made.spec.threat.clients,
        )
    for _, update in rounds:
        _require_finite(update)
    return task, rounds, targets


def _require_finite(update: Update) -> None:
    broken = [name for name, tensor in update.tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        msg = (
            f"The client's update has values in '{broken[0]}' that are not finite: there is nothing to attack. "
            "Lower the learning rate or the noise."
        )
        raise NotMeasured(msg)
