"""How long a run keeps what shows patients, and its removal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import LogProblem
from gradiograph.log.atomic import is_temporary, remove_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradiograph.log.log import Log

_SHOWS_PATIENTS = ("images.npz", "masks.npz", "*.png")
_LINKS_PATIENTS = ("pseudonym.key",)
_REPORTS = ("report.html", "report.pdf")


@dataclass(frozen=True, kw_only=True)
class Purge:
    """What was removed.

    Attributes:
        files: Pictures, arrays of pictures, checkpoints of trainings, reports, and the key of the pseudonyms.
        folders: Batches of originals.
    """

    files: int
    folders: int


def retained_until(header: Mapping[str, Any]) -> date | None:
    """The last day on which a run may keep its pictures: that of its start plus its `retention_days`.

    Args:
        header: Of its log.

    Returns:
        None where the audit file sets no limit.
    """
    days = header.get("spec", {}).get("retention_days")
    if days is None or not header.get("created"):
        return None
    return datetime.fromisoformat(header["created"]).date() + timedelta(days=int(days))


def purge(log: Log) -> Purge:
    """Remove the originals, the reconstructions, the models and the key of the pseudonyms; the numbers stay.

    Without the key nobody can tell whose number a row is. Removing is not overwriting: what a disk keeps of removed
    files, and every backup, is the user's to see to. The log says from then on that it was purged.

    Raises:
        LogProblem: the run goes on.
    """
    if log.header.get("status") == "running":
        msg = (
            "The run goes on, or was killed. Let it end, or continue it with --resume, and purge it then; if nothing "
            "writes it any more and you do not want its numbers, remove its folder."
        )
        raise LogProblem(msg)
    folders = list(_inside(log.directory / "victims"))
    files = list(_inside(log.directory / "checkpoints"))
    files += [f for cell in _inside(log.directory / "cells") for pattern in _SHOWS_PATIENTS for f in cell.glob(pattern)]
    files += [log.directory / name for name in (*_LINKS_PATIENTS, *_REPORTS) if (log.directory / name).is_file()]
    log.update(purged=datetime.now(UTC).isoformat(timespec="seconds"))
    for folder in folders:
        remove_folder(folder)
    for file in files:
        file.unlink(missing_ok=True)
    return Purge(files=len(files), folders=len(folders))


def require_kept(log: Log) -> None:
    """Raise `LogProblem` where the run was purged, for what needs its pictures."""
    if log.header.get("purged"):
        msg = f"The run was purged on {log.header['purged'][:10]}: its pictures are gone. Run the audit anew."
        raise LogProblem(msg)


def _inside(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*")) if not is_temporary(path))
