"""The files of an output, each found again by the spacing of its pixels, and every layer of their bytes."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import nibabel
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fingerprint(path: Path) -> tuple[str, str]:
    """The kind of a file and its spacing to 5 decimals; ("other", "") where it has none.

    Args:
        path: Any file.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        image: Any = nibabel.load(path)
        return "nifti", f"{float(image.header.get_zooms()[0]):.5f}"
    if path.suffix == ".json":
        return _sidecar(path)
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["PixelSpacing", "ImagerPixelSpacing"])
    except (InvalidDicomError, OSError):
        return "other", ""
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    return ("dicom", f"{float(spacing[0]):.5f}") if spacing else ("other", "")


def layers(path: Path) -> Iterator[bytes]:
    """The bytes of a file as they lie, and as they are once inflated or decoded."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    elif raw[128:132] == b"DICM":
        dataset = dcmread(io.BytesIO(raw))
        if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            inflated = io.BytesIO()
            dcmwrite(inflated, dataset, enforce_file_format=True)
            yield inflated.getvalue()


def _sidecar(path: Path) -> tuple[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return "sidecar", f"{float(content['SliceThickness']):.5f}"
    except (ValueError, KeyError, TypeError):
        return "other", ""
