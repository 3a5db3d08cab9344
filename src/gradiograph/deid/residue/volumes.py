"""Residual identifiers in NIfTI headers and their extensions."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import nibabel
from pydicom import dcmread

from gradiograph.deid.residue.headers import scan_header
from gradiograph.deid.residue.names import scan_name
from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.residue.words import has_unknown_words

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.deid.residue.finding import Sight

_FIELDS = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
_DICOM = 2
_NAMED = 8  # the flag of a gzip file that holds the name of what was packed


def scan_volume(path: Path, sight: Sight) -> None:
    """Look at a NIfTI file: text fields, header extensions (those of DICOM element by element), the gzip header.

    Args:
        path: `.nii` or `.nii.gz`.
        sight: Where findings go.
    """
    try:
        image: Any = nibabel.load(path)
        header = image.header
        sight.head = len(image.shape) >= 3
        inner = _packed_name(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, struct.error, zlib.error, EOFError):
        sight.unchecked.add("NIfTI files that cannot be read")
        return
    if inner and inner.removesuffix(".nii") != path.name.removesuffix(".gz").removesuffix(".nii"):
        scan_name(inner, sight)
    for field in _FIELDS:
        if field in header:
            _scan_text(bytes(header[field].tobytes()).decode("latin-1"), field, "text field", sight)
    for number, extension in enumerate(header.extensions):
        _scan_extension(extension, number, sight)


def _packed_name(path: Path) -> str:
    """The name that a gzip header gives to what it packs; empty where there is none."""
    with path.open("rb") as stream:
        start = stream.read(1024)
    if start[:2] != b"\x1f\x8b" or not start[3] & _NAMED:
        return ""
    return start[10:].partition(b"\0")[0].decode("latin-1")


def _scan_extension(extension: Any, number: int, sight: Sight) -> None:  # noqa: ANN401 - nibabel is not typed
    content = extension.get_content()
    place = f"{number}, ecode {extension.get_code()}"
    if extension.get_code() == _DICOM:
        try:
            dataset = dcmread(io.BytesIO(content), force=True) if isinstance(content, bytes) else content
            scan_header(dataset, sight)
        except Exception:
            sight.unchecked.add("DICOM extensions of NIfTI files that cannot be read")
        return
    text = content.decode("latin-1") if isinstance(content, bytes) else str(content)
    _scan_text(text, place, "extension", sight)


def _scan_text(text: str, place: str, where: Any, sight: Sight) -> None:  # noqa: ANN401 - Where, checked by callers
    stripped = text.replace("\0", " ").replace("_", " ").strip()
    found = letters_in(stripped)
    if not found and has_unknown_words(stripped):
        found = frozenset("A")
    sight.add(where, place, found)
