"""What a DICOM file says of its image, read without its pixels, from files that may be damaged or hostile."""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from gradiograph.data.dicom_checks import PixelsFound, require_image, require_pixels, require_size
from gradiograph.data.dicom_elements import read_numbers, read_whole
from gradiograph.data.quiet import quiet
from gradiograph.data.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

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
    pixels = PixelsFound()
    header = read_partial(stream, stop_when=pixels, specific_tags=tags)
    start = stream.tell()
    require_image(header, pixels)
    image = DicomImage(
        file=file,
        header=header,
        rows=read_whole(header, "Rows"),
        columns=read_whole(header, "Columns"),
        frames=read_whole(header, "NumberOfFrames", 1),
    )
    require_size(header)
    end = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    require_pixels(header, image.frames, stream, pixels, end - start)
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
