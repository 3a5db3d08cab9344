"""`gradiograph report` and `recommend`: what a finished run says, in the form that is asked for."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from gradiograph import report
from gradiograph.cli.arguments import RunFolder
from gradiograph.core.errors import BadSetting

console = Console(highlight=False)


def write_report(
    directory: RunFolder,
    form: Annotated[
        Literal["html", "pdf", "json", "md", "card", "csv"],
        typer.Option("--format", help="What to write; card is the privacy section of a model card."),
    ] = "html",
) -> None:
    """Write the report of a run, also of one that is not finished."""
    if form in ("html", "pdf"):
        path = report.write_html(directory) if form == "html" else report.write_pdf(directory)
        console.print(f"Report: {path}", soft_wrap=True)
    elif form == "csv":
        for path in (report.open_log(directory).export_csv(), *report.write_tables(directory)):
            console.print(f"Table: {path}", soft_wrap=True)
    else:
        written = {"json": report.to_json, "md": report.render_markdown, "card": report.render_card}[form]
        sys.stdout.write(written(report.open_log(directory)))


def recommend(
    directory: RunFolder,
    max_identification: Annotated[
        float | None, typer.Option(min=0, max=1, help="Identification beyond the control, upper 95 % limit.")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(min=0, max=1, help="Loss of the score.")] = None,
) -> None:
    """Name the cheapest protection that holds the run's policy, or another, validated on other patients."""
    results = report.Results.read(report.open_log(directory))
    limits = {"max_identification": max_identification, "max_loss": max_loss}
    policy = report.policy_of(results, {name: limit for name, limit in limits.items() if limit is not None})
    if policy is None:
        msg = "The run has no policy; give --max-identification, and --max-loss if a loss counts."
        raise BadSetting(msg)
    found = report.recommend(results, policy)
    for ruling in found.rulings:
        console.print(escape(f"{ruling.defence}: {'; '.join(ruling.failures) or 'passes on the first half'}"))
    console.print(escape(found.sentence))
    if not found.holds:
        raise typer.Exit(1)
