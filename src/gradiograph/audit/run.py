"""Running an audit: cell by cell, each written whole or not at all, so that a killed run can be continued."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gradiograph.audit.cell import can_run, run_cell, write_victims
from gradiograph.audit.environment import header
from gradiograph.audit.grid import MISMATCHED, GridCell
from gradiograph.audit.inputs import scan_inputs
from gradiograph.audit.judges import Judges, judges
from gradiograph.audit.on_ray import require_ray, spread_on_ray
from gradiograph.audit.plan import Plan, plan
from gradiograph.audit.trainings import run_training
from gradiograph.audit.workers import run_in_parallel
from gradiograph.audit.yardsticks import yardsticks
from gradiograph.core.errors import BadInput, LogProblem
from gradiograph.log import Log, require_kept
from gradiograph.log.atomic import is_vacant

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.audit.spec import Spec

Engine = Literal["processes", "ray"]
Progress = Callable[[int, int, float, str], None]
"""Called with the cells done, all cells, the share of the present cell that is done, and what it is."""


def silent(done: int, total: int, share: float, what: str) -> None:
    """No progress shown."""


def run(
    spec: Spec,
    folder: Path,
    out: Path,
    *,
    resume: bool = False,
    engine: Engine = "processes",
    workers: int | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Log:
    """Run an audit and write its log; the report is one call more (`report.write_html`).

    Args:
        spec: The audit.
        folder: What relative paths in it are relative to.
        out: The run's folder, new unless `resume`.
        resume: Continue a run of the same audit; finished cells stay as they are, failed ones are tried again.
        engine: What runs cells side by side: processes of this machine, or Ray, on this machine or a cluster.
        workers: Processes, each with its share of the threads; default: 1, with Ray all cores of this machine.
        command: The command line, for the record.
        progress: Called as the work goes on.

    Raises:
        BadInput: the audit cannot run as asked, or the folder is in the way.
        KeyboardInterrupt: after the log was marked as interrupted.
    """
    if engine == "ray":
        require_ray()
    made = plan(spec, folder)

    def run_cells(log: Log, judged: Judges) -> None:
        if made.trainings and made.utility.engine.use == "flower":
            # Here, for the extra may be missing where nobody asks for it.
            from gradiograph.audit.flower_run import train_on_flower

            train_on_flower(made, folder, log, progress)
        if engine == "ray":
            with spread_on_ray(made, spec, folder, log, workers, progress) as spread:
                _run_spread(made, log, spread)
        elif workers and workers > 1:
            _run_spread(made, log, lambda ids: run_in_parallel(spec, folder, out, ids, workers, progress))
        run_serially(made, log, judged, progress)

    return record(made, spec, out, run_cells, resume=resume, command=command)


def _run_spread(made: Plan, log: Log, spread: Callable[[list[str]], None]) -> None:
    """Run side by side what reads nothing that is still to come: later rounds read what was trained."""
    spread([planned.id for planned in made.trainings if not log.trainings.has(planned.id)])
    # The mismatched controls read what the attacks wrote; they are scored afterwards.
    first = [cell for cell in made.cells if cell.control != MISMATCHED and not log.has_cell(cell.id)]
    spread([cell.id for cell in first if can_run(made, log, cell)])


def record(
    made: Plan,
    spec: Spec,
    out: Path,
    run_cells: Callable[[Log, Judges], None],
    *,
    resume: bool = False,
    command: str = "",
) -> Log:
    """Keep the log of a checked audit while its cells run: what was asked, how it ended.

    Args:
        made: The checked audit.
        spec: The audit as given.
        out: The run's folder.
        run_cells: Runs and writes the cells.
        resume: Continue the log in `out`.
        command: The command line.
    """
    judged = judges(made)
    inputs = scan_inputs(made)
    entry = {**header(made, spec, judged.check(made), judged.not_measured, command), "inputs": inputs}
    log = _continue(out, entry) if resume else Log.create(out, entry)
    log.update(status="running", error=None)
    try:
        if "yardsticks" not in log.header:
            log.update(yardsticks=yardsticks(made.films, judged))
        write_victims(made, log)
        run_cells(log, judged)
    except KeyboardInterrupt:
        log.update(status="interrupted")
        raise
    except Exception as error:
        with suppress(LogProblem):  # where the disk is full, the log goes on saying that the run is under way
            # The message of a foreign exception may name a file; our own never do.
            log.update(status="failed", error=str(error) if isinstance(error, BadInput) else type(error).__name__)
        raise
    log.export_csv()
    # What a training that failed never came to cannot be attacked; the report says which training it was.
    log.update(status="complete", cells_total=sum(can_run(made, log, cell) for cell in made.cells))
    return log


def run_serially(made: Plan, log: Log, judged: Judges, progress: Progress) -> None:
    """Run the trainings and then the cells that the log does not have, one after the other."""
    total = len(made.trainings) + len(made.cells)
    for done, planned in enumerate(made.trainings):
        what = f"training / {planned.key['defence']} / {planned.arm}"
        progress(done, total, 0.0, what)
        run_training(made, log, planned, partial(_advance, progress, done, total, what))
    for done, cell in enumerate(made.cells, start=len(made.trainings)):
        progress(done, total, 0.0, title(cell))
        if can_run(made, log, cell):
            run_cell(made, log, judged, cell, partial(_advance, progress, done, total, title(cell)))
    progress(total, total, 0.0, "done")


def _advance(progress: Progress, done: int, total: int, what: str, share: float) -> None:
    progress(done, total, share, what)


def title(cell: GridCell) -> str:
    """What a cell is, for the progress bar."""
    later = f"round {cell.round}" if cell.round > 1 else ""
    parts = cell.key["defence"], cell.key["attack"], cell.control, later, f"batch {cell.batch}"
    return " / ".join(part for part in parts if part)


def _continue(out: Path, entry: dict[str, Any]) -> Log:
    """The log that is there, without the cells that failed, so that they are tried again."""
    if is_vacant(out):  # killed before it had written anything
        return Log.create(out, entry)
    log = Log.open(out)
    require_kept(log)
    changed = sorted(
        key for key in entry["spec"] | log.header["spec"] if entry["spec"].get(key) != log.header["spec"].get(key)
    )
    if changed:
        msg = f"--resume: {', '.join(changed)} in the audit file differ from the run's. Start a new run: another --out."
        raise LogProblem(msg)
    log.forget_failed()
    return log
