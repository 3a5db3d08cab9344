"""`gradiograph purge`: what shows patients is removed, the numbers stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gradiograph import report
from gradiograph.log import purge as purge_log
from gradiograph.log import retained_until

console = Console(highlight=False)


def purge(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The folders of runs.")],
    *,
    expired: Annotated[bool, typer.Option("--expired", help="Only runs whose `retention_days` are over.")] = False,
) -> None:
    """Remove originals, reconstructions, models and the key of the pseudonyms from runs; the numbers stay."""
    for directory in directories:
        log = report.open_log(directory)
        end = retained_until(log.header)
        if expired and (end is None or datetime.now(UTC).date() <= end):
            console.print(f"Kept {f'until {end}' if end else 'without a limit'}: {directory}", soft_wrap=True)
            continue
        found = purge_log(log)
        console.print(f"Removed {found.files} files, {found.folders} batches of originals: {directory}", soft_wrap=True)
        console.print(f"Report, without pictures: {report.write_html(directory).resolve()}", soft_wrap=True)
