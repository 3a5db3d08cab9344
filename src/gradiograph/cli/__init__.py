"""The command line: verbs only. Each parses, makes one call of the Python API, and prints."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gradiograph import audit, report
from gradiograph.cli.account import account
from gradiograph.cli.arguments import AuditFile, Overrides, RunFolder
from gradiograph.cli.components import list_components, show
from gradiograph.cli.data import data, end_where_refused
from gradiograph.cli.deidentify import deidentify
from gradiograph.cli.epsilon import audit_epsilon
from gradiograph.cli.inspect import inspect_model
from gradiograph.cli.judge import judges
from gradiograph.cli.lint import lint, show_lint
from gradiograph.cli.prior import priors
from gradiograph.cli.purge import purge
from gradiograph.cli.reports import recommend, write_report
from gradiograph.cli.scan import phi, scan
from gradiograph.cli.track import track
from gradiograph.cli.view import view
from gradiograph.core.errors import BadInput, BadSetting, LogProblem

app = typer.Typer(
    name="gradiograph",
    help="What can be read back out of a federated update, how much does each protection stop, and what does it cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(priors, name="prior")
app.add_typer(judges, name="judge")
app.command()(data)
app.command()(lint)
app.command()(deidentify)
app.command()(scan)
app.command()(phi)
app.command()(track)
app.command()(purge)
app.command()(view)
app.command("inspect")(inspect_model)
app.command("report")(write_report)
app.command()(recommend)
app.command("list")(list_components)
app.command()(show)
app.command()(account)
app.command("audit-epsilon")(audit_epsilon)
console = Console(highlight=False)


@app.command()
def demo(out: Annotated[Path | None, typer.Option(help="The run's folder, new.")] = None) -> None:
    """Run the built-in audits on the built-in phantom: what leaks, and what protections cost. No data, no network."""
    folder = out or _free("gradiograph-demo")
    for name, place in (("demo.toml", folder), ("demo_frontier.toml", folder.with_name(f"{folder.name}-frontier"))):
        spec, workers = audit.parse_spec(audit.builtin(name)), min(2, os.cpu_count() or 1)
        with _progress() as progress:
            log = audit.run(spec, Path(), place, workers=workers, command=_command(), progress=progress)
        _finish(log.directory)


@app.command()
def init(file: Annotated[Path, typer.Argument(metavar="[FILE]")] = Path("audit.toml")) -> None:
    """Write a commented audit file."""
    if file.exists():
        msg = f"{file} exists; choose another name: gradiograph init FILE."
        raise BadSetting(msg)
    file.write_text(_resource("template.toml"), encoding="utf-8")
    console.print(f"Wrote {file}. Edit it, then: gradiograph check {file}")


@app.command()
def check(file: AuditFile, override: Overrides = None) -> None:
    """Validate an audit; print its threat model, grid and estimated cost, and what the lint says of its privacy."""
    spec = audit.load_spec(file, override or ())
    made = audit.plan(spec, file.parent)
    threat = Table("The server", "", title="Threat model", title_justify="left")
    for field, value in spec.threat.model_dump().items():
        threat.add_row(field.replace("_", " "), {True: "yes", False: "no"}.get(value, str(value)))
    console.print(threat)
    grid = Table("Attack", "Task", "Protocol", "Cells", "Seconds each", "Hours", title="Grid", title_justify="left")
    costs = audit.estimate(made)
    for cost in costs:
        hours = cost.cells * cost.seconds / 3600
        cells = [cost.attack, cost.task, cost.protocol, str(cost.cells), f"{cost.seconds:.0f}", f"{hours:.2f}"]
        grid.add_row(*map(escape, cells))
    console.print(grid)
    show_lint(audit.lint_audit(made))
    for entry in audit.scan_inputs(made):
        console.print(f"Scan of {entry['role']}: identifiers in {entry['identified']} of {entry['files']} files.")
    total = sum(cost.cells * cost.seconds for cost in costs) / 3600
    if made.trainings:
        console.print(f"{len(made.trainings)} trainings of {made.utility.rounds} rounds, not in this estimate.")
    console.print(
        f"{len(made.cells)} cells with controls; attacks about {total:.2f} hours on this machine. The audit is valid."
    )
    end_where_refused(made.films.refused)


@app.command()
def run(
    file: AuditFile,
    override: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    engine: Annotated[
        Literal["processes", "ray"],
        typer.Option(help="What runs cells side by side; Ray on this machine, or on the cluster of RAY_ADDRESS."),
    ] = "processes",
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many cells side by side; default: 1, with Ray all cores.")
    ] = None,
    update: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="BEFORE AFTER", help="Attack an update captured elsewhere: state dicts before and after."),
    ] = None,
) -> None:
    """Run an audit and write its report."""
    spec = audit.load_spec(file, override or ())
    folder = out or Path("runs") / spec.name
    with _progress() as progress:
        if update is None:
            log = audit.run(
                spec,
                file.parent,
                folder,
                resume=resume,
                engine=engine,
                workers=workers,
                command=_command(),
                progress=progress,
            )
        elif resume or workers or engine != "processes":
            msg = "--resume, --workers and --engine do not go with --update; start a new run without them."
            raise BadSetting(msg)
        else:
            log = audit.run_captured(spec, file.parent, folder, *update, command=_command(), progress=progress)
    _finish(log.directory)
    _hold(log.directory)
    end_where_refused(log.header["data"].get("refused", ()))


@app.command()
def score(
    directory: RunFolder,
    metric: Annotated[str, typer.Option(help="The metric; settings after a colon: lpips:network=squeeze.")],
    file: Annotated[
        Path | None, typer.Option(help="The run's audit file, for metrics that search its gallery.")
    ] = None,
) -> None:
    """Add a metric to a run, on its stored reconstructions."""
    name, _, settings = metric.partition(":")
    pairs = dict(part.partition("=")[::2] for part in settings.split(",") if part)
    spec = audit.load_spec(file) if file else None
    log = audit.rescore(directory, {"use": name, **pairs}, spec, file.parent if file else None)
    _finish(log.directory)


def main() -> None:
    """Run the command line; bad input is one clear message and exit code 2."""
    os.umask(0o077)  # what an attacker could use is the owner's alone
    try:
        app()
    except BadInput as error:
        Console(stderr=True, highlight=False).print(f"Error: {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted. The run's folder holds all finished cells: continue with --resume.")
        sys.exit(130)


def _finish(directory: Path) -> None:
    path = report.write_html(directory)
    report.write_tables(directory)
    judgement = report.judge(report.Results.read(report.open_log(directory)))
    console.print(escape(judgement.headline))
    console.print(f"Report: {path.resolve()}", soft_wrap=True)


def _hold(directory: Path) -> None:
    """End with exit code 1 where the audit's own policy is not held."""
    results = report.Results.read(report.open_log(directory))
    policy = report.policy_of(results)
    if policy is None:
        return
    rulings = report.rule(results, policy)
    for ruling in rulings:
        told = "; ".join(ruling.failures)
        console.print(escape(f"Policy: {ruling.defence} " + (f"fails: {told}." if told else "passes.")))
    if not rulings or not all(ruling.passed for ruling in rulings):
        raise typer.Exit(1)


def _command() -> str:
    return shlex.join(["gradiograph", *sys.argv[1:]])


def _free(stem: str) -> Path:
    names = (Path(stem if number == 1 else f"{stem}-{number}") for number in range(1, 1000))
    for path in names:
        if not path.exists():
            return path
    msg = f"{stem} to {stem}-999 exist; name the folder with --out."
    raise LogProblem(msg)


def _resource(name: str) -> str:
    return (files("gradiograph.audit") / name).read_text(encoding="utf-8")


@contextmanager
def _progress() -> Iterator[audit.Progress]:
    columns = [TextColumn("{task.completed:.1f}/{task.total:.0f} cells"), BarColumn(), TaskProgressColumn()]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}")]
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        task = bar.add_task("opening the films", total=1)

        def advance(done: int, total: int, share: float, what: str) -> None:
            bar.update(task, completed=done + share, total=total, description=escape(what))

        yield advance
