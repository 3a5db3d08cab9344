"""A DICOM file: read with suspicion, written whole."""

from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gradiograph import __version__
from gradiograph.core.errors import DataProblem
from gradiograph.deid.options import Option
from gradiograph.deid.profile import EDITION, Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

_DICOMDIR: Final = "1.2.840.10008.1.3.10"
_IMPLEMENTATION = "2.25.309014733218447253105447418374116473401"
_PREFIX = slice(128, 132)
_FIRST_GROUPS = {b"\x02\0", b"\x08\0", b"\0\x08", b"\0\x02"}
_HEADER = 1024  # bytes, in which the header of Part 10 names the class
_UNDEFINED = 0xFFFFFFFF
_LONGEST_LO = 64


def read_dicom(content: bytes) -> Dataset:
    """The data set of a file.

    Args:
        content: The whole file, with or without the header of Part 10.

    Raises:
        DataProblem: it is no DICOM file, is damaged, or says nothing that can be de-identified.
    """
    if not content:
        msg = "The file is empty."
        raise DataProblem(msg)
    if content[_PREFIX] != b"DICM" and content[:2] not in _FIRST_GROUPS:
        msg = "Not a DICOM file."
        raise DataProblem(msg)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            read = pydicom.dcmread(io.BytesIO(content), force=True)
            cut = any("EOF" in str(warning.message) or "End of file" in str(warning.message) for warning in told)
            cut = cut or any(_is_cut(element) for element in _raw(read))
        except (RecursionError, MemoryError):
            msg = "Sequences are nested without end."
            raise DataProblem(msg) from None
        except Exception as error:  # damaged files raise whatever they like
            msg = f"The file cannot be parsed as DICOM ({type(error).__name__})."
            raise DataProblem(msg) from None
    if cut:
        msg = "The file ends in the middle of an element: it is truncated, or a length in it is wrong."
        raise DataProblem(msg)
    _check(read)
    return read


@contextmanager
def silent() -> Iterator[None]:
    """Within it pydicom neither warns of a value, nor logs it, nor checks it: its messages quote values."""
    log = logging.getLogger("pydicom")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def is_index(content: bytes) -> bool:
    """Whether the file is a DICOMDIR: an index of files, which is made anew and never de-identified."""
    # The class stands in the file's own header, which every index has.
    return content[_PREFIX] == b"DICM" and _DICOMDIR.encode() in content[132:_HEADER]


def check_pixels(read: Dataset) -> None:
    """Whether the pixel data is as long as the header says; what follows it is cut off.

    Raises:
        DataProblem: it is absent or shorter.
    """
    if "Rows" in read and "PixelData" not in read and "FloatPixelData" not in read:
        if "DoubleFloatPixelData" in read or "PixelDataProviderURL" in read:
            return
        msg = "The header describes an image, but there is no pixel data: the file is truncated or damaged."
        raise DataProblem(msg)
    if "PixelData" not in read or read.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    expected, found = _native_size(read), len(_pixel_bytes(read))
    if found < expected:
        msg = f"The header promises {expected:,} bytes of pixels; the file has {found:,}."
        raise DataProblem(msg)
    if found > expected + expected % 2:
        read.PixelData = _pixel_bytes(read)[:expected] + b"\0" * (expected % 2)


def write_dicom(made: Dataset) -> bytes:
    """The file of a de-identified data set: an empty preamble, a header of its own, and the data set.

    Raises:
        DataProblem: a value cannot be encoded.
    """
    made.preamble = b"\0" * 128
    buffer = io.BytesIO()
    try:
        pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    except RecursionError:
        msg = "Sequences are nested without end."
        raise DataProblem(msg) from None
    except Exception as error:  # damaged files raise whatever they like
        msg = f"What is left of the file cannot be encoded ({type(error).__name__})."
        raise DataProblem(msg) from None
    return buffer.getvalue()


def add_header(made: Dataset, source: Dataset) -> None:
    """The header of Part 10, in which nothing of the old one is left but the class and the transfer syntax.

    Raises:
        DataProblem: the data set lost its class or its UID, because they were malformed.
    """
    meta = FileMetaDataset()
    if "SOPClassUID" not in made or "SOPInstanceUID" not in made:
        msg = "The SOP class or instance UID is damaged."
        raise DataProblem(msg)
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "GRADIOGRAPH"
    made.file_meta = meta


def declare(made: Dataset, profile: Profile) -> None:
    """What PS3.15 asks a de-identified data set to say of itself."""
    made.PatientIdentityRemoved = "YES"
    coded = ", ".join(code for code, _ in profile.codes)
    texts = (f"Gradiograph {__version__}", f"{EDITION} Table E.1-1", *_wrap(f"Profile and options {coded}"))
    made.DeidentificationMethod = list(texts)
    made.DeidentificationMethodCodeSequence = Sequence([_code(code, meaning) for code, meaning in profile.codes])
    dates = {Option.FULL_DATES: "UNMODIFIED", Option.MODIFIED_DATES: "MODIFIED"}
    kept = [word for option, word in dates.items() if option in profile.options]
    made.LongitudinalTemporalInformationModified = kept[0] if kept else "REMOVED"


def _wrap(text: str) -> list[str]:
    words, lines = text.split(), [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if len(longer) <= _LONGEST_LO else [*lines, word]
    return lines


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _check(read: Dataset) -> None:
    if not _plain(read, "SOPClassUID"):
        msg = "The file names no SOP class: it is no DICOM object that can be de-identified."
        raise DataProblem(msg)
    if not _plain(read, "SOPInstanceUID"):
        msg = "The file has no SOP Instance UID: it is no DICOM object that can be de-identified."
        raise DataProblem(msg)
    if "TransferSyntaxUID" not in read.file_meta:
        implicit, little = read.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        read.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = read.file_meta.TransferSyntaxUID
    if not isinstance(syntax, UID) or not syntax.is_transfer_syntax:
        msg = "The transfer syntax is none that DICOM defines."
        raise DataProblem(msg)


def _plain(read: Dataset, keyword: str) -> str:
    try:
        value = read.get(keyword)
    except Exception:  # damaged files raise whatever they like
        return ""
    return str(value) if value and re.fullmatch(r"[0-9.]{1,64}", str(value)) else ""


def _raw(read: Dataset) -> Iterator[object]:
    return (read.get_item(tag) for tag in read.keys())  # noqa: SIM118 - iterating a data set decodes it


def _is_cut(element: object) -> bool:
    if not isinstance(element, RawDataElement) or element.length == _UNDEFINED:
        return False
    return len(element.value or b"") < element.length


def _pixel_bytes(read: Dataset) -> bytes:
    try:
        value = read.PixelData
    except Exception:  # damaged values raise whatever they like
        return b""
    return value if isinstance(value, bytes) else b""


def _native_size(read: Dataset) -> int:
    try:
        sides = [int(read.get(key) or 1) for key in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
        bits = int(np.prod(sides, dtype=object)) * int(read.BitsAllocated)
        subsampled = read.get("PhotometricInterpretation") == "YBR_FULL_422"
    except Exception:  # damaged values raise whatever they like
        msg = "The header does not say how large the image is."
        raise DataProblem(msg) from None
    return -(-bits // 8) * 2 // 3 if subsampled else -(-bits // 8)
