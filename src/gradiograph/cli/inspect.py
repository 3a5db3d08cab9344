"""`gradiograph inspect`: was the model that a server sent prepared to make its update leak?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import audit
from gradiograph.cli.arguments import AuditFile, Overrides

console = Console(highlight=False)
FEW = 3


def inspect_model(
    file: AuditFile,
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="The state dict that the server sent.")],
    override: Overrides = None,
    before: Annotated[Path | None, typer.Option(help="The state dict of the round before.")] = None,
) -> None:
    """Look for signs of planted weights in a model before you train on it; exit code 1 where there are some."""
    spec = audit.load_spec(file, override or ())
    signs = audit.inspect_weights(audit.plan(spec, file.parent), weights, before)
    suspicious = [sign for sign in signs if sign.is_suspicious]
    quiet = sorted((sign for sign in signs if not sign.is_suspicious), key=lambda sign: -sign.value / (sign.limit or 1))
    table = Table("Where", "What", "Value", "Limit", "", title="Signs of a planted model", title_justify="left")
    for sign in (*suspicious, *quiet[:FEW]):
        verdict = "suspicious" if sign.is_suspicious else ""
        table.add_row(escape(sign.where), sign.what, f"{sign.value:.3g}", f"{sign.limit:g}", verdict)
    console.print(table)
    if len(quiet) > FEW:
        console.print(f"And {len(quiet) - FEW} more, none of them suspicious.")
    if suspicious:
        console.print("Do not train on this model: ask the server for the reason.")
        raise typer.Exit(1)
    console.print("No sign was found. That is no proof: a change that is spread over many rounds is not seen.")
