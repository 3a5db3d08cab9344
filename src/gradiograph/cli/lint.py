"""`gradiograph lint`, and how the findings of the lint are printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import accounting, audit

console = Console(highlight=False)


def lint(
    app: Annotated[
        Path, typer.Argument(metavar="FILE", help="A Flower app's folder, one of its files, or an audit file.")
    ],
    patients: Annotated[int | None, typer.Option(min=1, help="Patients at the smallest site.")] = None,
    images_per_patient: Annotated[int | None, typer.Option(min=1, help="The most that one patient has.")] = None,
) -> None:
    """Find what makes the epsilon of a Flower app or an audit wrong or empty; runs nothing."""
    if app.suffix == ".toml":
        found = audit.lint_audit(audit.plan(audit.load_spec(app), app.parent))
    else:
        known = {"units": patients, "images_per_patient": images_per_patient}
        found = accounting.lint_app(app, **{name: value for name, value in known.items() if value is not None})
    if not found.setups:
        console.print("No mechanism of differential privacy was found.")
    show_lint(found)
    if found.errors:
        raise typer.Exit(1)


def show_lint(found: accounting.Lint) -> None:
    """Print the findings, and the rules that could not be checked; nothing where nothing was read."""
    if found.findings:
        table = Table("Rule", "Severity", "Where", "What is wrong", title="Privacy lint", title_justify="left")
        for finding in found.findings:
            broken, told = finding.rule, f"{finding.message} [{finding.rule.reference}]"
            table.add_row(broken.id, broken.severity, escape(finding.where), escape(told))
        console.print(table)
    if found.setups:
        warnings = len(found.findings) - found.errors
        console.print(f"Privacy lint: {len(found.setups)} set-ups, {found.errors} errors, {warnings} warnings.")
    for rule, facts in found.unchecked.items():
        console.print(f"Not checked: {rule}, it needs {', '.join(fact.replace('_', ' ') for fact in facts)}.")
