"""`gradiograph judge train`: a network that reads radiographs, for metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from gradiograph import audit
from gradiograph.cli.arguments import AuditFile, Overrides

console = Console(highlight=False)
judges = typer.Typer(help="Judges: networks that know films again and read findings.", no_args_is_help=True)


@judges.callback()
def _group() -> None:
    """Judges: networks that know films again and read findings."""


@judges.command("train")
def train_judge(
    file: AuditFile,
    override: Overrides = None,
    out: Annotated[Path, typer.Option(help="The file to write, new.")] = Path("judge.npz"),
    steps: Annotated[int, typer.Option(min=1, help="Of the training; 64 films each.")] = 1500,
) -> None:
    """Train a judge on an audit's public films, and measure it on public patients that are left out."""
    spec = audit.load_spec(file, override or ())
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("training the judge", total=1.0)
        found = audit.train_judge(spec, file.parent, out, steps, lambda share: bar.update(task, completed=share))
    console.print(f"Trained on {found.films} public films of {found.patients} patients, {found.steps} steps.")
    console.print(f"On {found.held_out_films} films of other patients (AUROC, chance is 0.5):")
    console.print(f"  a film among strangers, moved, blurred and noisy: {found.same_film:.3f}")
    pairs = f"  two films of one patient among strangers, {found.same_patient_pairs} pairs: "
    console.print(pairs + ("not measured" if found.same_patient is None else f"{found.same_patient:.3f}"))
    console.print(f"  the finding: {'not measured' if found.finding is None else f'{found.finding:.3f}'}")
    console.print(f"Judge: {out.resolve()}", soft_wrap=True)
