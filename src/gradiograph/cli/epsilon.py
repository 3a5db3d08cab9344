"""`gradiograph audit-epsilon`: the claimed epsilon beside what canaries prove."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import accounting, audit
from gradiograph.cli.arguments import AuditFile, Overrides

console = Console(highlight=False)


def audit_epsilon(
    file: AuditFile,
    override: Overrides = None,
    canaries: Annotated[
        int, typer.Option(min=accounting.FEWEST_CANARIES, help="Each in by its own fair coin.")
    ] = accounting.FEWEST_CANARIES,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of each bound.")] = 0.95,
) -> None:
    """Bound epsilon from below by trainings with canaries. Exit code 1: a bound is above its claim, which is untrue."""
    spec = audit.load_spec(file, override or ())
    refuted = False
    for found in audit.audit_epsilon(spec, file.parent, canaries=canaries, confidence=confidence):
        console.print(_table(found))
        refuted = refuted or found.refuted
    if refuted:
        raise typer.Exit(1)


def _table(found: audit.EpsilonAudit) -> Table:
    bound = found.bound
    title = f"{found.defence}, {found.protocol}, {found.task}"
    table = Table("Epsilon", "", title=escape(title), title_justify="left", show_header=False)
    table.add_row("claimed", f"at most {found.claimed:.4g} of one {found.unit}, at delta = {bound.delta:g}")
    table.add_row("accounted for this training", f"{found.accounted:.4g}, over {found.rounds} rounds")
    table.add_row("measured", f"at least {bound.epsilon:.3g}, with {bound.confidence:.0%} confidence")
    table.add_row("guesses", f"{bound.correct} of {bound.guesses} right, of {bound.canaries} canaries")
    table.add_row("most that so many canaries can show", f"{bound.largest:.3g}")
    table.add_row("", _verdict(found))
    return table


def _verdict(found: audit.EpsilonAudit) -> str:
    if found.refuted:
        return "REFUTED: what is measured is above what is claimed. The account or the mechanism is wrong."
    if found.claimed > found.bound.largest:
        return "Not refuted, and could not be: the claim is above the most that so many canaries can show."
    return "Not refuted. This is no proof: a better guesser, or a bug elsewhere, may show more."
