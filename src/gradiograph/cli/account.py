"""`gradiograph account`: the budget of recorded or planned events, by two accountants, and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import accounting, audit

console = Console(highlight=False)


def account(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An audit file, the folder of a run, or a file of events.")
    ],
    films: Annotated[int, typer.Option(min=2, help="Equally likely films, for the bound on identification.")] = 100,
) -> None:
    """Print epsilon by two accountants, of whom, and what it means; exit code 1 where a claim is untrue."""
    ledgers = audit.ledgers(file)
    if not ledgers:
        console.print("No protection here has a formal guarantee: there is no epsilon.")
    held = True
    for name, events in ledgers.items():
        accounts = accounting.account(events)
        console.print(_table(name, accounts))
        worst = max(accounts, key=lambda one: one.epsilon)
        own = [event for event in events if (event.site, event.unit) == (worst.site, worst.unit)]
        for sentence in accounting.meaning(worst, accounting.spends(own), films):
            console.print(f"- {sentence}")
        held = held and all(one.holds for one in accounts)
    if not held:
        raise typer.Exit(1)


def _table(name: str, accounts: tuple[accounting.Account, ...]) -> Table:
    table = Table("Site", "Epsilon, and of whom", "Delta", "By", "Difference", "Claimed", title=escape(name))
    table.title_justify = "left"
    for one in accounts:
        epsilon = "none: no noise" if one.kind == "no noise" else f"{one.epsilon:.4g} of {accounting.whose(one)}"
        if one.group > 1:
            epsilon += f"; {one.group_epsilon:.4g} of a patient with {one.group}"
        by = "; ".join(f"{who} {value:.6g}" for who, value in one.values.items())
        claim = "" if one.claimed is None else f"{one.claimed:g}: " + ("holds" if one.holds else "UNTRUE")
        kind = f"{one.kind}: " if one.values else ""
        table.add_row(escape(one.site), epsilon, f"{one.delta:g}", f"{kind}{by}", f"{one.difference:.2g}", claim)
    if len(accounts) > 1:
        table.caption = "The sites have no patient in common: the budget of the federation is the largest of theirs."
    return table
