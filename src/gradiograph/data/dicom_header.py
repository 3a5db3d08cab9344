"""What a DICOM file says of its image, read without its pixels, from files that may be damaged or hostile."""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.encaps import parse_fragments
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from gradiograph.data.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

MAX_FRAME_BYTES = 2**28
"""The largest frame that is decoded: 256 MiB, four times a mammogram of 4,800 x 6,000 pixels."""
MAX_INFLATED_BYTES = 2**29
_NUMBERS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation")
_IMAGE = (*_NUMBERS, "NumberOfFrames", "PhotometricInterpretation", "PlanarConfiguration", "PixelPaddingValue")
_VALUES = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth")
_LUTS = ("VOILUTFunction", "VOILUTSequence", "RedPaletteColorLookupTableDescriptor")
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ImageType")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientID")
_ORDER = ("InstanceNumber", "SeriesNumber")
KEYWORDS = (*_IMAGE, *_VALUES, *_LUTS, *_PLACE, *_GROUPS, *_NAMES, *_ORDER)
_PIXELS = {0x7FE00010, 0x7FE00009, 0x7FE00008}
_UNDEFINED = 0xFFFFFFFF
_TALKATIVE = ("pydicom", "openjpeg", "pylibjpeg", "PIL")


@dataclass(frozen=True, kw_only=True)
class DicomImage:
    """One file with an image.

    Attributes:
        file: Where it is.
        header: The elements of `KEYWORDS` and those asked for, no pixels.
        rows: Height of a frame.
        columns: Width of a frame.
        frames: Number of frames, at least 1.
    """

    file: Path = field(repr=False)
    header: Dataset = field(repr=False)
    rows: int
    columns: int
    frames: int

    def text(self, keyword: str) -> str:
        """The value of an element as text without blanks around it; "" where it is absent or empty.

        Raises:
            Refused: it cannot be read.
        """
        try:
            value = self.header.get(keyword)
            return "" if value is None else str(value).strip(" \0")
        except Exception:  # pydicom converts a value when it is asked for, and raises what it likes.
            msg = f"has a {keyword} that cannot be read. Mend it or take the file out"
            raise Refused(msg) from None

    def number(self, keyword: str, default: float | None = None) -> float | None:
        """The value of an element as a number, the first where it has several; the default where it is absent."""
        found = self.numbers(keyword)
        return found[0] if found else default

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The values of an element as numbers; none where it is absent or empty.

        Raises:
            Refused: it holds something else.
        """
        return read_numbers(self.header, keyword)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings, log lines and strictness out: they quote what stands in the file."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.propagate for logger in loggers]
    nowhere = logging.NullHandler()
    for logger in loggers:
        logger.addHandler(nowhere)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(nowhere)
            logger.propagate = propagate


def read_header(file: Path, keywords: Sequence[str] = ()) -> DicomImage:
    """Read what a file says of its image.

    Args:
        file: Any file.
        keywords: Further elements to read.

    Raises:
        Refused: it is no DICOM file, holds no image, is damaged or cut off, or is larger than what is decoded. The
            reason quotes nothing that stands in the file but numbers.
    """
    with quiet():
        try:
            with file.open("rb") as stream:
                return _read(file, stream, keywords)
        except Refused:
            raise
        except OSError:
            reason = "cannot be opened. Check its permissions"
        except Exception:  # pydicom raises what it likes on damaged files, RecursionError and MemoryError among it.
            reason = "cannot be parsed: its structure is damaged. Export it again"
    raise Refused(reason)


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """The file, inflated where its transfer syntax is deflated; at most `MAX_INFLATED_BYTES`."""
    with file.open("rb") as stream:
        yield _inflated(file, stream)


def read_numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """See `DicomImage.numbers`."""
    try:
        value: Any = header.get(keyword)
        if value is None or value == "":
            return ()
        several = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
        return tuple(float(one) for one in (value if several else (value,)))
    except Exception:
        msg = f"has a {keyword} that is not a number. Mend it or take the file out"
        raise Refused(msg) from None


def _read(file: Path, stream: BinaryIO, keywords: Sequence[str]) -> DicomImage:
    size = os.fstat(stream.fileno()).st_size
    if not size:
        msg = "is empty: 0 bytes. Copy it again"
        raise Refused(msg)
    if stream.read(132)[128:] != b"DICM":
        msg = "is no DICOM file: the letters DICM are not at byte 128. Take it out"
        raise Refused(msg)
    stream = _inflated(file, stream)
    tags: list[BaseTag | int] = [tag for name in (*KEYWORDS, *keywords) if (tag := tag_for_keyword(name)) is not None]
    pixels = _PixelsFound()
    header = read_partial(stream, stop_when=pixels, specific_tags=tags)
    start = stream.tell()
    _require_image(header, pixels)
    image = DicomImage(
        file=file,
        header=header,
        rows=_whole(header, "Rows"),
        columns=_whole(header, "Columns"),
        frames=_whole(header, "NumberOfFrames", 1),
    )
    _require_size(image)
    end = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    _require_pixels(image, stream, pixels, end - start)
    return image


def _inflated(file: Path, stream: BinaryIO) -> BinaryIO:
    """Inflate with a limit, which pydicom does not have, so that a small file cannot fill the memory."""
    meta = read_file_meta_info(file)
    stream.seek(0)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return stream
    head = stream.read(144 + int(meta.FileMetaInformationGroupLength))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(stream.read(), MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        msg = f"inflates to more than {MAX_INFLATED_BYTES // 2**20} MiB. Export it without deflating"
        raise Refused(msg)
    return BytesIO(head.replace(b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0") + content)


class _PixelsFound:
    """Stops the parser at the pixels and keeps what it said of them."""

    def __init__(self) -> None:
        self.tag = 0
        self.length = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXELS:
            self.tag, self.length = int(tag), length
        return bool(self.tag)


def _require_image(header: Dataset, pixels: _PixelsFound) -> None:
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


def _whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    found = read_numbers(header, keyword)
    number = found[0] if found else default
    if number is None or number != int(number) or number < 1:
        msg = f"has no usable {keyword}. Export it again"
        raise Refused(msg)
    return int(number)


def _require_size(image: DicomImage) -> None:
    header = image.header
    for keyword in _NUMBERS[:-1]:
        _whole(header, keyword)
    samples, bits = _whole(header, "SamplesPerPixel"), _whole(header, "BitsAllocated")
    stored = _whole(header, "BitsStored")
    if samples not in (1, 3) or bits not in (1, 8, 16, 32) or stored > bits:
        msg = f"has {samples} samples of {stored} in {bits} bits; read are 1 or 3 samples of up to 1, 8, 16 or 32 bits"
        raise Refused(msg)
    frame = image.rows * image.columns * samples * bits // 8
    if frame > MAX_FRAME_BYTES:
        msg = (
            f"says that it has {image.rows} x {image.columns} pixels, {frame // 2**20:,} MiB a frame; at most "
            f"{MAX_FRAME_BYTES // 2**20} MiB are decoded"
        )
        raise Refused(msg)


def _require_pixels(image: DicomImage, stream: BinaryIO, pixels: _PixelsFound, left: int) -> None:
    syntax = UID(str(image.header.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax or syntax.is_private:
        msg = "does not name a transfer syntax of the standard. Export it again"
        raise Refused(msg)
    if image.header.original_encoding[0] != syntax.is_implicit_VR:
        msg = "is encoded otherwise than its transfer syntax says. Export it again"
        raise Refused(msg)
    head = 8 if syntax.is_implicit_VR else 12
    if syntax.is_encapsulated:
        stream.seek(head, os.SEEK_CUR)
        _require_fragments(image.frames, stream, pixels.length, stream.tell() + left - head)
        return
    wanted = get_expected_length(image.header)
    there = min(left - head, pixels.length)
    if there < wanted:
        msg = f"is cut off: {max(there, 0):,} of {wanted:,} bytes of pixel data are there. Copy it again"
        raise Refused(msg)
    if pixels.length - wanted > wanted // image.frames:
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
