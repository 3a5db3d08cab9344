"""NIfTI volumes: the text in their headers and what hangs on them goes, geometry and voxels stay bit by bit."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pydicom
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from gradiograph.core.errors import BadInput, DataProblem
from gradiograph.deid.dataset import deidentify_dataset
from gradiograph.deid.dicom_file import declare, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradiograph.deid.profile import Profile
    from gradiograph.deid.pseudonyms import Pseudonyms

_GZIP = b"\x1f\x8b"
_LARGEST = 1 << 32  # bytes unpacked
_TEXT_FIELDS = ("descrip", "aux_file", "intent_name", "data_type", "db_name")
_UNUSED_FIELDS = ("extents", "session_error", "regular", "glmax", "glmin", "unused_str")
_DICOM_EXTENSION = 2
_MAGICS = (b"n+1\0", b"n+2\0")
_HEAD: Final = (140.0, 300.0)  # millimetres of each side of a volume that can hold a whole head and little more


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A de-identified volume.

    Attributes:
        content: Its bytes, packed as the original was.
        counts: How many fields and extensions were emptied, removed or cleaned.
        may_show_a_face: Whether it is as large as a head.
    """

    content: bytes = field(repr=False)
    counts: Counter[str]
    may_show_a_face: bool


def deidentify_nifti(content: bytes, profile: Profile, pseudonyms: Pseudonyms) -> Volume:
    """De-identify a NIfTI file.

    Args:
        content: The whole file, `.nii` or `.nii.gz`, version 1 or 2.
        profile: Decides what becomes of DICOM attributes in an extension.
        pseudonyms: Under the site's key.

    Raises:
        DataProblem: it is no NIfTI file of one piece, or damaged.
    """
    raw = _unpacked(content)
    header = _header(raw)
    counts: Counter[str] = Counter()
    for name in _TEXT_FIELDS:
        if name in header and bytes(np.asarray(header[name]).tobytes()).strip(b"\0 "):
            counts["Z"] += 1
            header[name] = b""
    for name in _UNUSED_FIELDS:
        if name in header:
            header[name] = b"" if header[name].dtype.kind == "S" else 0
    start, size = _voxels(header, len(raw))
    codes = list(_extensions(raw, header, start))
    cleaned = (_cleaned(body, profile, pseudonyms) for code, body in codes if code == _DICOM_EXTENSION)
    kept = [body for body in cleaned if body is not None]
    counts["X"] += len(codes) - len(kept)
    counts["C"] += len(kept)
    blocks = b"".join(_extension(body, header.endianness) for body in kept)
    header["vox_offset"] = header.sizeof_hdr + 4 + len(blocks)
    made = header.binaryblock + (b"\1\0\0\0" if kept else b"\0\0\0\0") + blocks + raw[start : start + size]
    return Volume(
        content=_packed(made) if content[:2] == _GZIP else made, counts=+counts, may_show_a_face=_is_a_head(header)
    )


def _unpacked(content: bytes) -> bytes:
    if content[:2] != _GZIP:
        return content
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            raw = packed.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        msg = "The file cannot be unpacked: it is truncated or damaged."
        raise DataProblem(msg) from None
    if len(raw) > _LARGEST:
        msg = f"The file unpacks to more than {_LARGEST:,} bytes."
        raise DataProblem(msg)
    return raw


def _packed(raw: bytes) -> bytes:
    """Packed without the name and the time that gzip would write."""
    return gzip.compress(raw, compresslevel=6, mtime=0)


def _header(raw: bytes) -> Any:  # noqa: ANN401 - nibabel has no types
    for kind, size, place in ((Nifti1Header, 348, 344), (Nifti2Header, 540, 4)):
        if raw[place : place + 4] not in _MAGICS or len(raw) < size + 4:
            continue
        for order in "<>":
            if struct.unpack(f"{order}i", raw[:4])[0] == size:
                return kind(raw[:size], endianness=order, check=False)  # type: ignore[no-untyped-call]
    msg = "Not a NIfTI file of one piece (.nii or .nii.gz, version 1 or 2); convert it first."
    raise DataProblem(msg)


def _voxels(header: Any, length: int) -> tuple[int, int]:  # noqa: ANN401
    """Where the voxels begin, and how many bytes they are."""
    dimensions = [int(side) for side in header["dim"]]
    sides, start = dimensions[1 : dimensions[0] + 1], float(header["vox_offset"])
    if not 1 <= dimensions[0] <= 7 or min(sides) < 1 or not header.sizeof_hdr + 4 <= start <= length:
        msg = "The header's sides or its offset of the voxels make no sense: the file is damaged."
        raise DataProblem(msg)
    size = int(np.prod(sides, dtype=object)) * int(header["bitpix"]) // 8
    if not 0 < size <= length - start:
        msg = f"The header promises {size:,} bytes of voxels; the file has {length - int(start):,}."
        raise DataProblem(msg)
    return int(start), size


def _extensions(raw: bytes, header: Any, end: int) -> Iterator[tuple[int, bytes]]:  # noqa: ANN401
    place = header.sizeof_hdr + 4
    if not raw[place - 4]:
        return
    while place + 8 <= end:
        size, code = struct.unpack(f"{header.endianness}ii", raw[place : place + 8])
        if not 8 <= size <= end - place:
            return
        yield code, raw[place + 8 : place + size]
        place += size


def _extension(body: bytes, order: str) -> bytes:
    size = -(-(len(body) + 8) // 16) * 16
    return struct.pack(f"{order}ii", size, _DICOM_EXTENSION) + body.ljust(size - 8, b"\0")


def _cleaned(body: bytes, profile: Profile, pseudonyms: Pseudonyms) -> bytes | None:
    """The DICOM attributes of an extension, de-identified; None where they cannot be read."""
    with silent():
        try:
            # The extension has no file header: implicit little-endian, as the standard's default, or explicit.
            source = pydicom.dcmread(io.BytesIO(body.rstrip(b"\0") + b"\0" * (len(body.rstrip(b"\0")) % 2)), force=True)
            made = deidentify_dataset(source, profile, pseudonyms).dataset
            declare(made, profile)
            buffer = io.BytesIO()
            implicit, little = source.original_encoding
            pydicom.dcmwrite(buffer, made, implicit_vr=bool(implicit), little_endian=bool(little))
        except (BadInput, RecursionError):
            return None
        except Exception:  # damaged attributes raise whatever they like
            return None
    return buffer.getvalue()


def _is_a_head(header: Any) -> bool:  # noqa: ANN401
    sides = np.abs(header["dim"][1:4] * header["pixdim"][1:4]).astype(float)
    return bool(header["dim"][0] >= 3 and np.all((sides >= _HEAD[0]) & (sides <= _HEAD[1])))
