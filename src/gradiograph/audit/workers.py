"""Cells side by side: worker processes that each open the audit and write whole cells into the same log."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from threading import Thread
from typing import TYPE_CHECKING

import torch

from gradiograph.audit.cell import run_cell
from gradiograph.audit.judges import Judges, judges
from gradiograph.audit.plan import Plan, plan
from gradiograph.audit.trainings import run_training
from gradiograph.core.errors import LogProblem
from gradiograph.log import Log

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.audit.spec import Spec

_SESSION: list[tuple[Plan, Log, Judges]] = []
"""What a worker process opened; empty in the process that started it."""


def run_in_parallel(
    spec: Spec,
    folder: Path,
    out: Path,
    ids: Sequence[str],
    workers: int,
    progress: Callable[[int, int, float, str], None],
) -> None:
    """Run these trainings or cells, none of which reads another.

    Args:
        spec: The audit.
        folder: What relative paths in it are relative to.
        out: The folder of its log, which exists.
        ids: Their ids.
        workers: The number of processes; each has its share of the threads.
        progress: Called after each cell.

    Raises:
        BadInput: as raised in a worker, or a worker was killed; the cells that were finished stay.
    """
    threads = max(1, torch.get_num_threads() // workers)
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    if not ids:
        return
    pool = ProcessPoolExecutor(workers, context, initializer=_open, initargs=(spec, folder, out, threads))
    try:
        futures = [pool.submit(_run, cell) for cell in ids]
        progress(0, len(ids), 0.0, f"{workers} workers")
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress(done, len(ids), 0.0, f"{workers} workers")
    except BrokenProcessPool:
        msg = (
            "A worker process was killed, perhaps because memory ran out. What is finished is kept: continue with "
            f"--resume, and with less than --workers {workers} if it happens again."
        )
        raise LogProblem(msg) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


def end_with_parent() -> None:
    """From now on this process ends as soon as the one that started it is gone, however that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _open(spec: Spec, folder: Path, out: Path, threads: int) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    torch.set_num_threads(threads)
    made = plan(spec, folder)
    _SESSION.append((made, Log.open(out), judges(made)))


def _run(cell_id: str) -> None:
    ((made, log, judged),) = _SESSION
    for planned in made.trainings:
        if planned.id == cell_id:
            run_training(made, log, planned, lambda _: None)
    for cell in made.cells:
        if cell.id == cell_id:
            run_cell(made, log, judged, cell, lambda _: None)
