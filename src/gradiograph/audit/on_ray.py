"""Cells spread by Ray over the cores of this machine, or over those of a cluster; a lost worker's cells are redone.

A worker opens the audit by itself, so the data must be under the same path on every machine. It writes a cell or a
training into a folder of its own and sends back the files; only the process that runs the audit writes into the run's
folder. Weights and reconstructions cross between the machines, and so does the key of the pseudonyms; no original does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.cell import make_entry, run_cell
from gradiograph.audit.judges import Judges, judges
from gradiograph.audit.plan import Plan, plan
from gradiograph.audit.scoring import KEY_VARIABLE, pseudonym_key
from gradiograph.audit.spec import parse_spec
from gradiograph.audit.trainings import run_training, training_of
from gradiograph.core.errors import MissingExtra
from gradiograph.log import Log, ModelCell
from gradiograph.log.atomic import write_file

if TYPE_CHECKING:
    from gradiograph.audit.spec import Spec

RETRIES = 3
"""How often a cell is redone whose worker was lost, before it is taken to be the cause."""

Spread = Callable[[Sequence[str]], None]
"""Runs the trainings or cells of these ids, none of which reads another."""


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What a worker opens: the audit as JSON, what its paths are relative to, the key of the pseudonyms, threads."""

    spec: str
    folder: str
    key: bytes
    threads: int


@contextmanager
def spread_on_ray(
    made: Plan,
    spec: Spec,
    folder: Path,
    log: Log,
    workers: int | None,
    progress: Callable[[int, int, float, str], None],
) -> Iterator[Spread]:
    """Within this block Ray runs: on this machine, or the cluster that the environment variable RAY_ADDRESS names.

    Args:
        made: The checked audit.
        spec: The audit as given.
        folder: What relative paths in it are relative to.
        log: Where the results go.
        workers: Cores of this machine to use, None is all; a cluster says by itself how many it has.
        progress: Called after each cell.
    """
    ray = require_ray()
    address = os.environ.get("RAY_ADDRESS")
    cores = workers or os.cpu_count() or 1
    local = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    ray.init(**(local if address is None else {"address": address}), log_to_driver=False, logging_level="ERROR")
    session = _Session(
        spec=json.dumps(spec.model_dump(mode="json", exclude_unset=True)),
        folder=str(folder.resolve()),
        key=pseudonym_key(log.directory),
        threads=1 if address else max(1, torch.get_num_threads() // cores),
    )
    try:
        yield lambda ids: _spread(ray, made, log, session, ids, progress)
    finally:
        ray.shutdown()


def require_ray() -> Any:  # noqa: ANN401 - a module that may be missing
    """The module ray.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
    try:
        import ray
    except ImportError:
        msg = "--engine ray needs the package ray, which is not installed: pip install 'gradiograph[ray]'."
        raise MissingExtra(msg) from None
    return ray


def _spread(
    ray: Any,  # noqa: ANN401 - the module
    made: Plan,
    log: Log,
    session: _Session,
    ids: Sequence[str],
    progress: Callable[[int, int, float, str], None],
) -> None:
    work = ray.remote(num_cpus=1, max_retries=RETRIES)(_work)
    shared, checkpoints = ray.put(session), _Checkpoints(ray, made, log)
    waiting = {work.remote(shared, cell_id, checkpoints.of(cell_id)): cell_id for cell_id in ids}
    for done in range(len(ids)):
        progress(done, len(ids), 0.0, f"{int(ray.cluster_resources().get('CPU', 0))} cores")
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        cell_id = waiting.pop(ready)
        try:
            _keep(log, cell_id, ray.get(ready))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as if it had been raised here
        except ray.exceptions.RayError as error:
            lost = f"Its worker was lost {RETRIES + 1} times ({type(error).__name__}): too little memory, or a crash."
            _give_up(made, log, cell_id, lost)


class _Checkpoints:
    """The checkpoints that cells of later rounds read, each shared once."""

    def __init__(self, ray: Any, made: Plan, log: Log) -> None:  # noqa: ANN401 - the module
        self._ray, self._made, self._log = ray, made, log
        self._later = {cell.id: training_of(made, cell).id for cell in made.cells if cell.round > 1}
        self._shared: dict[str, Any] = {}

    def of(self, cell_id: str) -> Any:  # noqa: ANN401 - a reference, which a worker reads as (name, bytes)
        """Of a training itself, or of the training whose later round a cell attacks; None where there is none."""
        name = self._later.get(cell_id, cell_id)
        if name not in self._shared:
            stored = self._log.trainings.checkpoint(name)
            self._shared[name] = self._ray.put((name, stored) if stored else None)
        return self._shared[name]


def _work(session: _Session, cell_id: str, checkpoint: tuple[str, bytes] | None) -> dict[str, Mapping[str, bytes]]:
    """One training or cell, in a folder of its own; the files that it made."""
    made, judged = _opened(session)
    os.environ.pop(KEY_VARIABLE, None)  # the run's own key counts, wherever this is
    with TemporaryDirectory(prefix="gradiograph-") as scratch:
        log = Log.create(Path(scratch) / "run", {})
        write_file(log.directory / "pseudonym.key", session.key)
        if checkpoint:
            log.trainings.keep(*checkpoint)
        for planned in made.trainings:
            if planned.id == cell_id:
                run_training(made, log, planned, lambda _: None)
                stored = log.trainings.checkpoint(cell_id)
                return {"training": log.trainings.files(cell_id), "checkpoint": {"": stored} if stored else {}}
        (cell,) = [cell for cell in made.cells if cell.id == cell_id]
        run_cell(made, log, judged, cell, lambda _: None)
        return {"cell": log.files(cell_id)}


@lru_cache(maxsize=1)
def _opened(session: _Session) -> tuple[Plan, Judges]:
    torch.set_num_threads(session.threads)
    made = plan(parse_spec(json.loads(session.spec)), Path(session.folder))
    return made, judges(made)


def _keep(log: Log, cell_id: str, files: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write what a worker sent."""
    if "cell" in files:
        log.add(cell_id, files["cell"])
        return
    for content in files["checkpoint"].values():  # before the training that is finished with it
        log.trainings.keep(cell_id, content)
    log.trainings.add(cell_id, files["training"])


def _give_up(made: Plan, log: Log, cell_id: str, why: str) -> None:
    """Write a cell or training that cannot be had, with the reason."""
    for planned in made.trainings:
        if planned.id == cell_id:
            log.trainings.write(ModelCell(id=cell_id, **planned.key, failed=why), None)
            return
    (cell,) = [cell for cell in made.cells if cell.id == cell_id]
    log.write_cell(replace(make_entry(cell), failed=why), (), None)
