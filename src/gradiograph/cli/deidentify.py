"""`gradiograph deidentify`: de-identify a folder of DICOM and NIfTI files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from gradiograph import deid
from gradiograph.cli.scores import show_scores

console = Console(highlight=False)
_CODES = ", ".join(f"{option.name.lower().replace('_', '-')} ({option.code})" for option in deid.Option)


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder of DICOM and NIfTI files, or one file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, outside of IN.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"An option of the profile, several times: {_CODES}.")
    ] = None,
    key: Annotated[
        Path, typer.Option(metavar="FILE", help="The site's key; made, for its owner only, where it is missing.")
    ] = Path("deidentification.key"),
    *,
    clean_pixels: Annotated[bool, typer.Option(help="Blacken burned-in text; needs the extra `ocr`.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = min(
        4, os.cpu_count() or 1
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    score: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Score OUT against the key.json of `gradiograph phi`.")
    ] = None,
) -> None:
    """De-identify a folder after DICOM PS3.15 Annex E; the originals stay as they are."""
    chosen = {deid.option_of(name) for name in option or ()} | ({deid.Option.CLEAN_PIXELS} if clean_pixels else set())
    profile = deid.Profile(deid.check_options(chosen))
    with _progress() as progress:
        found = deid.deidentify_folder(
            source, out, profile, deid.read_key(key), workers=workers, resume=resume, progress=progress
        )
    _tell(found)
    holds = score is None or show_scores(out, score)
    if found["refused"] or not holds:
        raise typer.Exit(1)


def _tell(found: dict[str, Any]) -> None:
    console.print(f"{found['profile']}: " + "; ".join(f"{code} {meaning}" for code, meaning in found["codes"]) + ".")
    for refused in found["refused"]:
        console.print(escape(f"Refused: file {refused['number']} of {found['files']}: {refused['reason']}"))
    console.print(f"{found['deidentified']} of {found['files']} files de-identified.")
    for warning, count in found["warnings"].items():
        console.print(f"Warning, {count} files: {warning}.")
    for what in found["not_checked"]:
        console.print(f"Not checked: {what}.")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
