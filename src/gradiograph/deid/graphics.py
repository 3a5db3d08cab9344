"""Overlay planes: their text is cleared, and what they leave in the unused bits of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom.pixels.utils import pack_bits

from gradiograph.deid.blacken import cover, is_marker

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from gradiograph.deid.blacken import Finder

_GROUPS: Final = range(0x6000, 0x6020, 2)
_DATA, _BITS_ALLOCATED, _BIT_POSITION = 0x3000, 0x0100, 0x0102
_ROUNDS = 4


def clean_overlays(made: Dataset, finder: Finder | None) -> int:
    """Clear the text in all overlay planes, in place; a plane that cannot be read is removed.

    Args:
        made: The de-identified data set.
        finder: Finds the text; None removes every plane.

    Returns:
        How many planes are left.
    """
    left = 0
    for group in _GROUPS:
        if (group << 16 | _DATA) not in made:
            continue
        if finder is not None and _clean_plane(made, group, finder):
            left += 1
            continue
        for tag in [tag for tag in made.keys() if tag >> 16 == group]:  # noqa: SIM118 - iterating a data set decodes it
            del made[tag]
    return left


def clear_unused_bits(made: Dataset, source: Dataset) -> bool:
    """Clear the bits above those stored, where the original kept an overlay in them: it is text or a drawing.

    Args:
        made: The de-identified data set; its pixel data changes in place.
        source: The original.

    Returns:
        Whether there was one.
    """
    embedded = any(_position(source, group) for group in _GROUPS)
    keys = ("BitsAllocated", "BitsStored", "HighBit", "PixelData")
    if not embedded or not all(key in made for key in keys) or made.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    allocated, stored, high = (int(made.get(key) or 0) for key in keys[:3])
    order = "<" if made.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated:
        return False
    words = np.frombuffer(made.PixelData, dtype=f"{order}u{allocated // 8}")
    kept = ((1 << stored) - 1) << (high + 1 - stored)
    made.PixelData = (words & words.dtype.type(kept)).astype(words.dtype).tobytes()
    return True


def _position(source: Dataset, group: int) -> int:
    """The bit of the pixels that holds the plane; 0 where it has data of its own, or none."""
    try:
        return int(source[group << 16 | _BIT_POSITION].value or 0) if group << 16 | _BIT_POSITION in source else 0
    except Exception:  # damaged values raise whatever they like
        return 0


def _clean_plane(made: Dataset, group: int, finder: Finder) -> bool:
    try:
        plane = made.overlay_array(group).astype(bool)
    except Exception:  # damaged planes raise whatever they like
        return False
    frames = plane if plane.ndim == 3 else plane[None]
    for _ in range(_ROUNDS):
        found = [
            [region for region in finder.find((frame * np.uint8(255)).astype(np.uint8)) if not is_marker(region.text)]
            for frame in frames
        ]
        if not any(found):
            made[group << 16 | _DATA].value = pack_bits(frames.astype(np.uint8))
            return True
        for frame, regions in zip(frames, found, strict=True):
            frame[cover(regions, frame.shape)] = False
    return False
