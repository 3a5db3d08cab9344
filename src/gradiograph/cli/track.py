"""`gradiograph track`: a run's numbers in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gradiograph import report

console = Console(highlight=False)


def track(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")],
    uri: Annotated[
        str | None, typer.Option(help="MLflow's tracking server or folder; default: as MLflow is set.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="The name of the experiment.")] = "gradiograph",
) -> None:
    """Send a run's numbers to MLflow: aggregates alone, nothing of a patient."""
    console.print(f"MLflow run: {report.track(directory, uri, experiment)}")
