"""Interchange media: a DICOMDIR made anew of what was de-identified, with the names that the standard allows."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pydicom
from pydicom.fileset import FileSet

from gradiograph.deid.dicom_file import silent
from gradiograph.deid.values import DUMMIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradiograph.deid.journal import Entry
    from gradiograph.deid.pseudonyms import Pseudonyms

PENDING: Final = "DICOMDIR"
"""The output of an index whose new one is still to be made."""

# What a DICOMDIR must say of each file; the profile allows a dummy where it empties.
_NEEDED: Final = {
    "StudyDate": DUMMIES["DA"], "StudyTime": DUMMIES["TM"], "StudyID": "1", "SeriesNumber": "1", "InstanceNumber": "1",
    "Modality": "OT",
}  # fmt: skip
_LETTERS = 8


def write_media(out: Path, entries: Sequence[Entry], names: Mapping[int, str], pseudonyms: Pseudonyms) -> list[Entry]:
    """Make each medium of the input anew: its files move to where the new DICOMDIR lists them.

    Args:
        out: The output folder.
        entries: Of all files of the run; those of an index have the output `PENDING`.
        names: Each file's path within the input folder, by its number.
        pseudonyms: Name the folder of each medium.

    Returns:
        The entries with their new places; an index of which none could be made is refused.
    """
    made = {entry.number: entry for entry in entries}
    for index in [entry for entry in entries if entry.output == PENDING]:
        root = names[index.number].rpartition("/")[0]
        inside = [
            entry
            for entry in made.values()
            if entry.output.endswith(".dcm") and (not root or names[entry.number].startswith(f"{root}/"))
        ]
        made.update({entry.number: entry for entry in _write(out, index, inside, pseudonyms)})
    return list(made.values())


def _write(out: Path, index: Entry, inside: Sequence[Entry], pseudonyms: Pseudonyms) -> list[Entry]:
    folder = pseudonyms.name("medium", index.file)[:_LETTERS]
    temporary = out / f".tmp-{folder}"
    shutil.rmtree(temporary, ignore_errors=True)
    medium = FileSet()
    try:
        with silent():
            uids = [str(medium.add(_complete(out / entry.output)).SOPInstanceUID) for entry in inside]
            medium.write(temporary)
            placed = {str(instance.SOPInstanceUID): _within(instance.path, temporary) for instance in medium}
        if len(placed) != len(inside):
            raise ValueError  # two files claim the same UID, which a medium cannot hold
        moved = [replace(entry, output=f"{folder}/{placed[uid]}") for entry, uid in zip(inside, uids, strict=True)]
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        shutil.rmtree(temporary, ignore_errors=True)
        reason = "An index of files (DICOMDIR): no new one can be made of what was de-identified."
        return [replace(index, output="", reason=reason)]
    finally:
        with suppress(AttributeError, KeyError):
            medium._stage[
                "t"
            ].cleanup()  # pydicom leaves its staging folder to the garbage collector, which warns of it
    for path in temporary.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    temporary.rename(out / folder)
    for entry in inside:
        (out / entry.output).unlink()
    return [*moved, replace(index, output=f"{folder}/DICOMDIR")]


def _complete(path: Path) -> pydicom.FileDataset:
    read = pydicom.dcmread(path)
    for keyword, dummy in _NEEDED.items():
        if not read.get(keyword):
            setattr(read, keyword, dummy)
    return read


def _within(path: str, folder: Path) -> str:
    return path.rpartition(f"{folder.name}/")[2]
