"""Running an audit: cell by cell, each written whole or not at all, so that a killed run can be continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.audit.catalogue import label
from gradiograph.audit.client import client_update, observe
from gradiograph.audit.environment import header
from gradiograph.audit.films import mismatched_batch
from gradiograph.audit.grid import MEAN, MISMATCHED, NONE, STOCK, GridCell, attacked_batches
from gradiograph.audit.plan import Plan, build_attack, plan
from gradiograph.audit.scoring import build_metrics, paired, pseudonym_key, record_names, score, scoring_context
from gradiograph.core.errors import BadInput, LogProblem
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.log import Cell, Log
from gradiograph.metrics import lpips_available

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gradiograph.audit.spec import Spec
    from gradiograph.core.attack import Observation
    from gradiograph.core.records import Row
    from gradiograph.core.scoring import Score, ScoringContext
    from gradiograph.metrics import Metric

Progress = Callable[[int, int, float, str], None]
"""Called with the cells done, all cells, the share of the present cell that is done, and what it is."""


def silent(done: int, total: int, share: float, what: str) -> None:
    """No progress shown."""


def run(
    spec: Spec, folder: Path, out: Path, *, resume: bool = False, command: str = "", progress: Progress = silent
) -> Log:
    """Run an audit and write its log; the report is one call more (`report.write_html`).

    Args:
        spec: The audit.
        folder: What relative paths in it are relative to.
        out: The run's folder, new unless `resume`.
        resume: Continue a run of the same audit; finished cells stay as they are.
        command: The command line, for the record.
        progress: Called as the work goes on.

    Raises:
        BadInput: the audit cannot run as asked, or the folder is in the way.
        KeyboardInterrupt: after the log was marked as interrupted.
    """
    return execute(plan(spec, folder), spec, out, resume=resume, command=command, progress=progress)


def execute(made: Plan, spec: Spec, out: Path, *, resume: bool, command: str, progress: Progress) -> Log:
    """Run a checked audit; `spec` is the audit file as given, for the record. See `run`."""
    optional, not_measured = _available(made.spec)
    metrics = build_metrics([*made.spec.metrics, *optional])
    context = scoring_context(made.films, made.spec.networks, b"")
    scores = _self_check(metrics, made, context)
    entry = header(made, spec, scores, not_measured, command)
    log = _continue(out, entry) if resume else Log.create(out, entry)
    log.update(status="running", error=None)
    try:
        _run_cells(made, log, metrics, context, progress)
    except KeyboardInterrupt:
        log.update(status="interrupted")
        raise
    except Exception as error:
        # The message of a foreign exception may name a file; our own never do.
        log.update(status="failed", error=str(error) if isinstance(error, BadInput) else type(error).__name__)
        raise
    log.export_csv()
    log.update(status="complete")
    return log


def _continue(out: Path, entry: Mapping[str, Any]) -> Log:
    log = Log.open(out)
    changed = sorted(
        key for key in entry["spec"] | log.header["spec"] if entry["spec"].get(key) != log.header["spec"].get(key)
    )
    if changed:
        msg = f"--resume: {', '.join(changed)} in the audit file differ from the run's. Start a new run: another --out."
        raise LogProblem(msg)
    return log


def _available(spec: Spec) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The optional metrics that can be had without a download, and why the others cannot."""
    found, missing = [], []
    for config in spec.metrics_if_available:
        distance = config.get("distance", "lpips") if config["use"] == "identification" else config["use"]
        needs_lpips = distance == "lpips"
        reason = lpips_available(config.get("network", "alex"), spec.networks) if needs_lpips else None
        if reason is None:
            found.append(config)
        else:
            missing.append({"what": label(config), "why": reason})
    return found, missing


def _self_check(metrics: Sequence[Metric], made: Plan, context: ScoringContext) -> list[Score]:
    """Score the first victims against themselves: a metric without its weights or films fails now, not hours later."""
    truth = torch.from_numpy(made.films.victims[0].read())
    labels = torch.from_numpy(made.films.victims[0].labels)
    return [score for metric in metrics for score in metric(truth, truth, labels, context)]


def _run_cells(made: Plan, log: Log, metrics: Sequence[Metric], context: ScoringContext, progress: Progress) -> None:
    key = pseudonym_key(log.directory)
    classes = made.films.dataset.classes
    for batch, victims in enumerate(made.films.victims):
        if not log.has_victims(batch):
            log.write_victims(batch, record_names(victims, key), [classes[i] for i in victims.labels], victims.read())
    total = len(made.cells)
    for done, cell in enumerate(made.cells):
        what = " / ".join(filter(None, (cell.key["defence"], cell.key["attack"], cell.control, f"batch {cell.batch}")))
        progress(done, total, 0.0, what)
        if not log.has_cell(cell.id):
            images, entry = _images(made, log, cell, lambda share: progress(done, total, share, what))  # noqa: B023
            rows = _rows(metrics, images, made, cell, context, key)
            log.write_cell(entry, rows, images)
    progress(total, total, 0.0, "done")


def _rows(
    metrics: Sequence[Metric],
    images: NDArray[np.float32],
    made: Plan,
    cell: GridCell,
    context: ScoringContext,
    key: bytes,
) -> tuple[Row, ...]:
    victims = made.films.victims[cell.batch]
    return score(metrics, images, victims, context, record_names(victims, key), cell.key)


def _images(made: Plan, log: Log, cell: GridCell, share: Callable[[float], None]) -> tuple[NDArray[np.float32], Cell]:
    """What the cell shows for each victim, in the victims' order, and how it came about."""
    entry = Cell(id=cell.id, **cell.key, seconds=0.0, num_bytes=0, flags=(), objective=())
    truth = made.films.victims[cell.batch].read()
    if cell.control == STOCK:
        return made.films.stock_films(cell.batch, cell.seed), entry
    if cell.control == MEAN:
        return np.broadcast_to(made.films.mean_film(), truth.shape).copy(), entry
    if cell.control == MISMATCHED:
        other = mismatched_batch(cell.batch, made.spec.victims.batches, attacked_batches(made.spec, cell))
        source = replace(cell, control=NONE, batch=other).id
        found = {done.id: done for done in log.cells()}[source]
        images = log.images(source)
        if images is None:
            msg = f"Cell {source} has no images; the mismatched control cannot be scored. Start a new run."
            raise LogProblem(msg)
        return paired(images, truth), replace(
            entry, seconds=found.seconds, num_bytes=found.num_bytes, flags=found.flags
        )
    images, entry = _attack(made, cell, entry, share)
    return paired(images, truth), entry


def _attack(
    made: Plan, cell: GridCell, entry: Cell, share: Callable[[float], None]
) -> tuple[NDArray[np.float32], Cell]:
    observation = _observation(made, cell)
    attack = build_attack(made.builder, cell.attack or {})
    found = attack(observation, stream(cell.seed, "attack", cell.key["attack"]), share)
    (_, seen), *_ = observation.rounds
    return found.images.detach().numpy(), replace(
        entry,
        seconds=found.seconds,
        num_bytes=seen.num_bytes,
        flags=tuple(found.flags),
        objective=tuple(found.objective),
    )


def _observation(made: Plan, cell: GridCell) -> Observation:
    """The round of this cell: a client's, made here, or the captured one (batch 0 of a captured audit)."""
    task = made.task(cell.task or {}, cell.seed)
    protocol = made.builder.make("protocol", cell.protocol or {})
    defence = made.builder.chain(cell.defence)
    state = made.captured.state if made.captured else task.state()
    labels = torch.from_numpy(made.films.victims[cell.batch].labels)
    if made.captured and cell.batch == 0:
        update = made.captured.update
    else:
        batch = Batch(torch.from_numpy(made.films.victims[cell.batch].read()), labels)
        update = client_update(task, state, batch, protocol, defence, cell.seed, cell.batch)
    return observe(task, state, update, protocol, defence, made.spec.threat, labels)
