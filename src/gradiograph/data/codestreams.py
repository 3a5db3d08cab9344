"""The size that a compressed image claims, read from its own first bytes before anything is allocated for it."""

from __future__ import annotations

import struct

_J2K_START = b"\xff\x4f\xff\x51"
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame: of every kind of JPEG (ITU-T T.81, table B.1), and of JPEG-LS (ITU-T T.87, C.1.1)."""


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """The rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where it has no such header.

    Args:
        data: The stream from its first byte. JPEG 2000 may be wrapped in the boxes of JP2.

    Source: ITU-T T.81, B.2.2; T.87, C.2.2; T.800, A.5.1.
    """
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    start = data[:4096].find(_J2K_START)
    if start < 0 or len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return bottom - top, right - left


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker in _STANDALONE or marker == 0xFF:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            rows, columns = struct.unpack_from(">HH", data, place + 5)
            return rows, columns
        if marker == 0xDA:
            return None
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    return None
