"""`gradiograph list` and `show`: the components, from the registry."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import audit
from gradiograph.core import registry

console = Console(highlight=False)


def list_components(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(registry.KINDS)}.")] = None,
) -> None:
    """List the components, of one kind or of all."""
    audit.load_components()
    table = Table("Kind", "Name", "What it is", "Paper", box=None)
    for chosen in (kind,) if kind else registry.KINDS:
        for component in registry.components(chosen):
            table.add_row(chosen, component.name, escape(component.summary), escape(component.paper))
    console.print(table)


def show(kind: str, name: str) -> None:
    """Show a component: what it does, where it comes from, its settings."""
    audit.load_components()
    component = registry.component(kind, name)
    console.print(f"{component.kind} {component.name}", style="bold")
    console.print(escape(component.documentation))
    if component.paper:
        console.print(f"\nPaper: {escape(component.paper)}")
    table = Table("Setting", "Takes", "Default", box=None)
    for key, takes, default in component.describe_settings():
        table.add_row(key, escape(takes), escape(default))
    console.print()
    console.print(table if table.rows else "No settings.")
