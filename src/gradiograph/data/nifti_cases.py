"""The files of a listing as volumes with their masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.data.nifti_files import open_nifti, with_mask
from gradiograph.data.refusals import Refused, refusal, require_some
from gradiograph.data.volume_reader import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.data.listing import Entry
    from gradiograph.data.volumes import Volume


def open_cases(
    entries: Sequence[Entry], window: tuple[float, float] | None, *, other_grid: bool
) -> tuple[list[Case], list[str]]:
    """Open the files of a listing; what cannot be used gets a line.

    Args:
        entries: Sorted.
        window: See `Volume`.
        other_grid: See `with_mask`.

    Returns:
        The cases, and the lines.
    """
    cases: list[Case] = []
    refused = []
    for position, entry in enumerate(entries, 1):
        try:
            volume = _open(entry, window, other_grid=other_grid)
        except Refused as why:
            refused.append(refusal(position, len(entries), why))
        else:
            cases.append(Case(position=position, entry=entry, volume=volume))
    require_some(len(cases), refused, len(entries))
    return cases, refused


def _open(entry: Entry, window: tuple[float, float] | None, *, other_grid: bool) -> Volume:
    if not entry.file.is_file():
        msg = "is not there. Add it, or take it out of the list"
        raise Refused(msg)
    volume = open_nifti(entry.file, window)
    if entry.mask is None:
        return volume
    if not entry.mask.is_file():
        msg = "has a mask that is not there. Add it, or take the image out"
        raise Refused(msg)
    return with_mask(volume, entry.mask, other_grid=other_grid)
