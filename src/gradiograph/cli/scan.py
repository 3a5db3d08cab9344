"""`gradiograph scan` and `gradiograph phi`: what is left of a patient, and synthetic patients to try that on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gradiograph.core.errors import BadSetting
from gradiograph.deid import residue, scoring, synthetic

console = Console(highlight=False)
_SHOWN = 20


def scan(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of DICOM, NIfTI or image files, or one file.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all findings with the names of the files, for you alone.")
    ] = None,
    *,
    pixels: Annotated[bool, typer.Option(help="Read the text in pixels; needs the extra `ocr`.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
) -> None:
    """Look for identifiers that a de-identification left behind; exit code 1 when there are some."""
    if out is not None and out.exists():
        msg = "The file given as --out exists; name a new one."
        raise BadSetting(msg)
    with show_progress() as progress:
        found = residue.scan(folder, pixels=None if pixels else 0, workers=workers, progress=progress)
    if out is not None:
        _write(out, folder, found)
    show_residue(found)
    if found.identified:
        raise typer.Exit(1)


def phi(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    patients: Annotated[int, typer.Option(min=1, help="How many invented patients.")] = 300,
    files: Annotated[int, typer.Option(min=1, help="How many files of all kinds.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same set.")] = 0,
) -> None:
    """Make synthetic images full of identifiers of invented patients, and their answer key."""
    listed = sorted(scoring.reference_actions())
    with show_progress() as progress:
        key = synthetic.generate(folder, patients=patients, files=files, seed=seed, listed=listed, progress=progress)
    burned = sum(not made.keep for file in key.files for made in file.burns)
    console.print(f"{len(key.files)} files of {len(key.patients)} invented patients, {burned} texts in their pixels.")
    console.print(
        f"De-identify DIR/{synthetic.IMAGES} and score it: gradiograph deidentify IN OUT --score DIR/key.json"
    )


def show_residue(found: residue.Residue) -> None:
    """Print what a scan found, without any value and any name of a file."""
    if found.identified:
        table = Table("Letter", "HIPAA Safe Harbor", "In", "Files", title="Residual identifiers", title_justify="left")
        for (letter, where), count in found.by_place().items():
            table.add_row(letter, residue.LETTERS[letter], where, str(count))
        console.print(table)
        for finding in found.findings[:_SHOWN]:
            place = f", {finding.place}" if finding.place else ""
            console.print(escape(f"File {finding.file} of {found.files}: {finding.letter}, {finding.where}{place}"))
        if len(found.findings) > _SHOWN:
            console.print(f"... and {len(found.findings) - _SHOWN} more findings: --out FILE lists them all.")
    for reason, count in found.unchecked.items():
        console.print(f"Not checked, {count} files: {reason}.")
    for notice in found.notices:
        console.print(notice)
    if found.identified:
        console.print(f"Not de-identified: identifiers were found in {found.identified_files} of {found.files} files.")
    else:
        console.print(
            f"{found.files} files: de-identified as far as this scan sees. It found nothing; it proves nothing."
        )


@contextmanager
def show_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar that counts files."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write(out: Path, folder: Path, found: residue.Residue) -> None:
    names = [path.as_posix() for path in residue.files_of(folder)]
    rows = [
        {"file": names[finding.file - 1], "where": finding.where, "place": finding.place, "letter": finding.letter}
        for finding in found.findings
    ]
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(rows, stream, indent=1, ensure_ascii=False)
