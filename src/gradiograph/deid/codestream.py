"""Compressed frames without the comments that a codec, or somebody, wrote into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.encaps import encapsulate, generate_frames

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_JPEG, _J2K = b"\xff\xd8", b"\xff\x4f\xff\x51"
_SCAN, _TILE = 0xDA, 0x90
# Comments, EXIF and XMP, Photoshop's. What tells of colours (APP0, APP2, APP8, APP14) a decoder may need.
_TEXTS: Final = {_JPEG: frozenset({0xFE, 0xE1, 0xED}), _J2K: frozenset({0x64})}


def strip_comments(made: Dataset) -> int:
    """Take the comments out of encapsulated pixel data, in place; what is decoded stays the same.

    Args:
        made: The de-identified data set; nothing happens where its pixels are not compressed.

    Returns:
        How many frames had comments.
    """
    if "PixelData" not in made or not made.file_meta.TransferSyntaxUID.is_encapsulated:
        return 0
    try:
        count = int(made.get("NumberOfFrames") or 1)
        frames = list(generate_frames(made.PixelData, number_of_frames=count))
    except Exception:  # damaged fragments raise whatever they like; they stay, to be refused by who decodes them
        return 0
    stripped = [without_comments(frame) for frame in frames]
    changed = sum(before != after for before, after in zip(frames, stripped, strict=True))
    if changed:
        made.PixelData = encapsulate(stripped)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in made:
                del made[keyword]
    return changed


def without_comments(frame: bytes) -> bytes:
    r"""A codestream of JPEG, JPEG-LS or JPEG 2000 without its comments; others, and damaged ones, as they are.

    >>> without_comments(b"\xff\xd8" + b"\xff\xfe\x00\x06DOE!" + b"\xff\xda\x00\x02scan")
    b'\xff\xd8\xff\xda\x00\x02scan'
    """
    start = next((magic for magic in _TEXTS if frame.startswith(magic)), None)
    if start is None:
        return frame
    kept, place = [frame[:2]], 2
    while place + 4 <= len(frame) and frame[place] == 0xFF and frame[place + 1] not in (_SCAN, _TILE):
        end = place + 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
        if frame[place + 1] not in _TEXTS[start]:
            kept.append(frame[place:end])
        place = end
    return b"".join((*kept, frame[place:])) if place < len(frame) else frame
