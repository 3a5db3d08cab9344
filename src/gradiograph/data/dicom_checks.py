"""Whether a DICOM file holds an image that can be decoded, before anything is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from pydicom.encaps import parse_fragments
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from gradiograph.data.dicom_elements import read_whole
from gradiograph.data.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

MAX_FRAME_BYTES = 2**28
"""The largest frame that is decoded: 256 MiB, more than four times a mammogram of 4,800 x 6,000 pixels."""
_PIXELS = {0x7FE00010, 0x7FE00009, 0x7FE00008}
_UNDEFINED = 0xFFFFFFFF


class PixelsFound:
    """Stops the parser at the pixels and keeps what it said of them."""

    def __init__(self) -> None:
        self.tag = 0
        self.length = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        """Whether to stop: `stop_when` of pydicom's parser."""
        if int(tag) in _PIXELS:
            self.tag, self.length = int(tag), length
        return bool(self.tag)


def require_image(header: Dataset, pixels: PixelsFound) -> None:
    """Refuse a file whose parsing did not end at whole-number pixels."""
    if pixels.tag == 0x7FE00010:
        return
    if pixels.tag:
        msg = "holds floating-point pixels, which are not read. Export whole numbers with a rescale slope"
        raise Refused(msg)
    if "Rows" in header:
        msg = "ends before its pixel data: it was cut off. Copy it again"
        raise Refused(msg)
    kind = UID(str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")))
    # A UID that is not in the dictionary is its own name, and could be anything.
    msg = f"holds no image (it is of {'an unknown kind' if kind.name == kind else kind.name}). Take it out"
    raise Refused(msg)


def require_size(header: Dataset) -> None:
    """Refuse samples that are not handled, and a frame of more than `MAX_FRAME_BYTES`."""
    samples, bits = read_whole(header, "SamplesPerPixel"), read_whole(header, "BitsAllocated")
    stored = read_whole(header, "BitsStored")
    if samples not in (1, 3) or bits not in (1, 8, 16, 32) or stored > bits:
        msg = f"has {samples} samples of {stored} in {bits} bits; read are 1 or 3 samples of up to 1, 8, 16 or 32 bits"
        raise Refused(msg)
    rows, columns = read_whole(header, "Rows"), read_whole(header, "Columns")
    frame = rows * columns * samples * bits // 8
    if frame > MAX_FRAME_BYTES:
        msg = (
            f"says that it has {rows} x {columns} pixels, {frame // 2**20:,} MiB a frame; at most "
            f"{MAX_FRAME_BYTES // 2**20} MiB are decoded"
        )
        raise Refused(msg)


def require_pixels(header: Dataset, frames: int, stream: BinaryIO, pixels: PixelsFound, left: int) -> None:
    """Refuse pixel data that are not as long as the header says, or not in the parts that it needs.

    Args:
        header: What was read before the pixels.
        frames: How many there should be.
        stream: At the beginning of the element with the pixels.
        pixels: What the parser said of that element.
        left: The bytes from there to the end of the file.

    Raises:
        Refused: they are not.
    """
    syntax = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax or syntax.is_private:
        msg = "does not name a transfer syntax of the standard. Export it again"
        raise Refused(msg)
    if header.original_encoding[0] != syntax.is_implicit_VR:
        msg = "is encoded otherwise than its transfer syntax says. Export it again"
        raise Refused(msg)
    head = 8 if syntax.is_implicit_VR else 12
    if syntax.is_encapsulated:
        stream.seek(head, os.SEEK_CUR)
        _require_fragments(frames, stream, pixels.length, stream.tell() + left - head)
        return
    wanted = get_expected_length(header)
    there = min(left - head, pixels.length)
    if there < wanted:
        msg = f"is cut off: {max(there, 0):,} of {wanted:,} bytes of pixel data are there. Copy it again"
        raise Refused(msg)
    if pixels.length - wanted > wanted // frames:
        msg = f"has {pixels.length:,} bytes of pixel data, but its header says {wanted:,}. Export it again"
        raise Refused(msg)


def _require_fragments(frames: int, stream: BinaryIO, length: int, end: int) -> None:
    fragments, offsets = parse_fragments(stream)
    # The first item is the offset table.
    if length != _UNDEFINED or fragments - 1 < frames:
        msg = f"has {max(fragments - 1, 0)} compressed parts for {frames} frames. Copy or export it again"
        raise Refused(msg)
    stream.seek(offsets[-1] + 4)
    if offsets[-1] + 8 + int.from_bytes(stream.read(4), "little") > end:
        msg = "is cut off: its last compressed part is not all there. Copy it again"
        raise Refused(msg)
