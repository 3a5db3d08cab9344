"""Small invented DICOM and NIfTI files for the tests of the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from gradiograph.core.seeds import numpy_stream

PLANTED = "Hildegard"
"""Every patient, file and folder of the specimens carries this name: no message may show it."""


def uid(*names: object) -> str:
    """The same UID for the same names."""
    return generate_uid(entropy_srcs=["specimen", *map(str, names)])


def dataset(pixels: np.ndarray, *names: object, **elements: Any) -> FileDataset:
    """A digital X-ray of pixels (H, W), (frames, H, W) or (H, W, 3); elements by keyword, None takes one out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid("instance", *names)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    bits = 8 * pixels.dtype.itemsize
    content = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": uid("study", *names),
        "SeriesInstanceUID": uid("series", *names),
        "Modality": "DX",
        "PatientID": f"{PLANTED}-{uid(*names)[-12:]}",
        "PatientName": f"{PLANTED}^Test",
        "Rows": pixels.shape[0 if colour or pixels.ndim == 2 else 1],
        "Columns": pixels.shape[1 if colour or pixels.ndim == 2 else 2],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if colour else {}),
        **({"NumberOfFrames": len(pixels)} if pixels.ndim == 3 and not colour else {}),
        **elements,
    }
    for keyword, value in content.items():
        if value is not None:
            setattr(made, keyword, value)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    return made


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write such an X-ray; its UIDs and its patient come from the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(pixels, path.as_posix(), **elements).save_as(path, enforce_file_format=True)
    return path


def noise(shape: tuple[int, ...], *names: object, dtype: type = np.uint16, high: int = 4096) -> np.ndarray:
    """Smooth-free noise of whole numbers below `high`."""
    return numpy_stream(0, "noise", *names).integers(0, high, shape).astype(dtype)


def class_folder(root: Path, *, patients: int = 6, size: int = 24, **elements: Any) -> Path:
    """X-rays of two classes, one of each patient, in PATH/CLASS/PATIENT/ folders without suffixes."""
    for label in ("normal", "opacity"):
        for patient in range(patients):
            place, who = root / label / f"{PLANTED}{patient}" / "IM0001", f"{PLANTED}-{label}-{patient}"
            write_dicom(place, noise((size, size + 4), label, patient), PatientID=who, **elements)
    return root


def write_series(
    folder: Path, values: np.ndarray, affine: np.ndarray, *, order: str = "mixed", **elements: Any
) -> list[Path]:
    """Write a volume (X, Y, Z) with an LPS affine as one CT series, its files in an order that is not the patient's."""
    names = np.arange(values.shape[2])
    if order == "mixed":
        numpy_stream(0, "order").shuffle(names)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    written = []
    for number in range(values.shape[2]):
        position = affine[:3, 3] + affine[:3, 2] * number
        path = folder / f"{names[number]:04d}.dcm"
        content = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": uid(folder, number),
            "SeriesInstanceUID": uid(folder),
            "StudyInstanceUID": uid(folder, "study"),
            "PatientID": f"{PLANTED} {folder.name}",
            "Modality": "CT",
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "RescaleType": "HU",
            "InstanceNumber": int(names[number]) + 1,
            "ImagePositionPatient": [float(f"{one:.6f}") for one in position],
            "ImageOrientationPatient": [
                float(f"{one:.6f}") for one in (*affine[:3, 0] / spacing[0], *affine[:3, 1] / spacing[1])
            ],
            "PixelSpacing": [float(spacing[1]), float(spacing[0])],
            "SliceThickness": float(spacing[2]),
            **elements,
        }
        plane = np.ascontiguousarray((values[:, :, number].T + 1024).clip(0, 4095).astype(np.int16))
        written.append(write_dicom(path, plane, **content))
    return written


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a volume (X, Y, Z) or (X, Y, Z, C)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header.set_sform(image.affine, 1)
    image.header.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


def decathlon_folder(root: Path, *, volumes: int = 6, shape: tuple[int, ...] = (12, 14, 5)) -> Path:
    """A task in the layout of the Decathlon: one structure, a box; a test image without a mask."""
    items = []
    for number in range(volumes):
        name = f"{PLANTED}_{number:03d}.nii.gz"
        write_nifti(root / "imagesTr" / name, noise(shape, number, dtype=np.int16))
        mask = np.zeros(shape[:3], np.uint8)
        mask[3:9, 4:10, 1:4] = 1
        write_nifti(root / "labelsTr" / name, mask)
        items.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {"labels": {"0": "background", "1": "box"}, "training": items, "test": ["./imagesTs/other.nii.gz"]}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def sequence(*items: dict[str, Any]) -> list[Dataset]:
    """Items of a sequence, by keyword."""
    made = []
    for content in items:
        item = Dataset()
        for keyword, value in content.items():
            setattr(item, keyword, value)
        made.append(item)
    return made
