"""Attacking an update that was captured elsewhere: two state dicts, before and after the client's round."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import prepare
from gradiograph.audit.client import CapturedRound
from gradiograph.audit.films import AuditFilms, Selection, require_same_form
from gradiograph.audit.grid import MEAN, NONE, STOCK
from gradiograph.audit.plan import Plan, plan, require_strangers
from gradiograph.audit.planted import Replayed, replay_planted
from gradiograph.audit.run import Progress, record, run_serially, silent
from gradiograph.core import registry
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.core.tensors import Batch, Tensors, Update
from gradiograph.tasks import load_into, load_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gradiograph.audit.grid import GridCell
    from gradiograph.audit.judges import Judges
    from gradiograph.audit.spec import Captured, Planted, Spec
    from gradiograph.core.task import Task
    from gradiograph.log import Log


def run_captured(
    spec: Spec, folder: Path, out: Path, before: Path, after: Path, *, command: str = "", progress: Progress = silent
) -> Log:
    """Attack a captured update with every attack and seed of the audit, and score it against the originals.

    The mismatched control attacks an update that we make from public films of the same classes, from the same weights.
    Where the audit has a planted round, that is replayed first; if the replay does not give it, nothing is attacked.

    Args:
        spec: One task, one protocol that sends a delta, and a table `captured` with the originals.
        folder: What relative paths in the audit are relative to.
        out: The run's folder, new.
        before: State dict before the round.
        after: State dict after it, as the server received it.
        command: The command line, for the record.
        progress: Called as the work goes on.

    Raises:
        BadInput: the audit, the weights or the originals do not fit.
    """
    captured = _require_captured(spec)
    # Two "batches": the captured one and the public one that serves as its mismatched update.
    size = captured.num_examples // spec.threat.clients
    update: dict[str, Any] = {"victims": spec.victims.model_copy(update={"batches": 2, "size": size})}
    update |= {"defences": [captured.defence], "defended": type(spec.defended)(), "utility": None, "policy": None}
    attacked = spec.model_copy(update=update)
    made = plan(attacked, folder)
    films = _films(made, captured, folder)
    task = made.task(spec.task[0], spec.seeds[0])
    made = replace(
        made, films=films, cells=_scored_cells(made), captured=_round(task, captured.num_examples, before, after)
    )
    replayed = _replayed(made, captured.planted, folder)
    if replayed and not replayed.agrees:  # an attack on what is not understood would prove nothing
        made = replace(made, cells=tuple(cell for cell in made.cells if cell.control in (STOCK, MEAN)))

    def run_cells(log: Log, judged: Judges) -> None:
        log.update(replayed=replayed and replayed.entry())
        run_serially(made, log, judged, progress)

    return record(made, attacked, out, run_cells, command=command)


def _require_captured(spec: Spec) -> Captured:
    if spec.captured is None:
        msg = "run --update needs a table [captured] with num_examples, originals, and the defence that was in place."
        raise BadSetting(msg)
    for key, entries in (("task", spec.task), ("protocol", spec.protocol)):
        if len(entries) > 1:
            msg = f"run --update attacks one update; the audit has {len(entries)} entries in {key}. Keep one."
            raise BadSetting(msg)
    if spec.threat.malicious_server:
        msg = (
            "run --update attacks an update of the model that was sent; threat.server = 'malicious' would send "
            "another. Leave it out."
        )
        raise BadSetting(msg)
    if spec.victims.rounds > 1:
        msg = f"run --update attacks one round; victims.rounds is {spec.victims.rounds}. Make it 1."
        raise BadSetting(msg)
    if spec.captured.num_examples % spec.threat.clients:
        msg = (
            f"captured.num_examples = {spec.captured.num_examples} is no multiple of threat.clients = "
            f"{spec.threat.clients}: the clients of a sum are taken to have as many films each. Mend either."
        )
        raise BadSetting(msg)
    if spec.protocol[0].get("use") == "fedsgd":
        msg = "Two state dicts differ by a delta; protocol 'fedsgd' sends a gradient. Use 'fedavg', local_steps = 1."
        raise BadSetting(msg)
    return spec.captured


def _films(made: Plan, captured: Captured, folder: Path) -> AuditFilms:
    originals = registry.build("data", prepare("data", captured.originals, folder))
    require_same_form(originals, made.films.dataset, "captured.originals")
    if len(originals.records) != captured.num_examples:
        held = len(originals.records)
        msg = f"captured.originals holds {held} films, captured.num_examples is {captured.num_examples}. Mend either."
        raise DataProblem(msg)
    require_strangers(made.spec, folder, originals.records)
    victims = Selection(dataset=originals, records=originals.records)
    public = made.films.public
    rng = numpy_stream(made.spec.victims.seed, "captured")
    stand_in = Selection(
        dataset=public.dataset,
        records=tuple(public.records[rng.choice((public.labels == label).nonzero()[0])] for label in victims.labels),
    )
    return AuditFilms(victims=(victims, stand_in), public=public, gallery=made.films.gallery)


def _scored_cells(made: Plan) -> tuple[GridCell, ...]:
    """Only what is scored against the captured films, and the attack on the stand-in that its control reads."""
    return tuple(c for c in made.cells if c.batch == 0 or c.control == NONE)


def _replayed(made: Plan, planted: Planted | None, folder: Path) -> Replayed | None:
    """What the planted round says of the audit's description of the app; None where there is none."""
    if planted is None:
        return None
    films = registry.build("data", prepare("data", planted.originals, folder))
    require_same_form(films, made.films.dataset, "captured.planted.originals")
    known = Selection(dataset=films, records=films.records)
    task = made.task(made.spec.task[0], made.spec.seeds[0])
    protocol = made.builder.make("protocol", made.spec.protocol[0])
    before, after = folder / planted.before, folder / planted.after
    start, end = _fitted(task, before), _fitted(task, after)
    changed = {name for name, _ in task.model.named_parameters() if not torch.equal(start[name], end[name])}
    batch = Batch(torch.from_numpy(known.read()), known.targets(task))
    defence = made.builder.chain(made.spec.defences[0])
    return replay_planted(task, protocol, defence, _round(task, len(known.records), before, after), batch, changed)


def _fitted(task: Task, path: Path) -> dict[str, Tensor]:
    load_into(task.model, load_state(path))
    return task.state()


def _round(task: Task, num_examples: int, before: Path, after: Path) -> CapturedRound:
    start, end = (_fitted(task, path) for path in (before, after))
    change: Tensors = {name: end[name] - start[name] for name in start if start[name].is_floating_point()}
    update = Update(
        tensors={name: change[name] for name in task.trainable},
        buffers={name: tensor for name, tensor in change.items() if name not in dict(task.model.named_parameters())},
        kind="delta",
        num_examples=num_examples,
        num_bytes=sum(tensor.numel() * tensor.element_size() for tensor in change.values()),
    )
    return CapturedRound(start, update)
