"""`gradiograph data`: what an audit file's data are, and which of its files cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradiograph import audit
from gradiograph.core.records import Dataset

console = Console(highlight=False)


def data(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The audit file (TOML).")],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
    ] = None,
) -> None:
    """Open an audit's data: what a record is, how many there are, what was refused; exit code 1 where something was."""
    dataset = audit.open_data(audit.load_spec(file, override or ()), file.parent)
    console.print(escape(dataset.card))
    console.print(f"Images {' x '.join(map(str, dataset.image_shape))}, {_masks(dataset)}.")
    splits = sorted({record.split for record in dataset.records})
    table = Table("Class", *splits, "patients", title="Records", title_justify="left")
    for label, name in enumerate(dataset.classes):
        own = dataset.select(label=label)
        count = Counter(record.split for record in own)
        patients = len({record.patient for record in own})
        table.add_row(escape(name), *(str(count[split]) for split in splits), str(patients))
    console.print(table)
    sites = len({record.site for record in dataset.records if record.site})
    console.print(f"{sites} sites are named." if sites else "No site is named.")
    end_where_refused(dataset.refused)


def end_where_refused(lines: Sequence[str]) -> None:
    """Print the lines about files that could not be used, and end with exit code 1 where there are some."""
    for line in lines:
        Console(stderr=True, highlight=False).print(f"Refused: {escape(line)}", soft_wrap=True)
    if lines:
        raise typer.Exit(1)


def _masks(dataset: Dataset) -> str:
    return f"masks of {escape(', '.join(dataset.mask_classes))}" if dataset.mask_classes else "no masks"
