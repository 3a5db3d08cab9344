"""Synthetic NIfTI volumes: text fields, header extensions and the JSON beside them, all telling of the patient."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1DicomExtension, Nifti1Extension
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from gradiograph.deid.synthetic.anatomy import draw_anatomy
from gradiograph.deid.synthetic.elements import clock
from gradiograph.deid.synthetic.phrases import phrase

if TYPE_CHECKING:
    from gradiograph.deid.synthetic.person import Person

SHAPE = (40, 48, 24)


def volume(person: Person, spacing: str, rng: np.random.Generator) -> tuple[bytes, dict[str, Any]]:
    """A head as `.nii.gz`, and the content of its sidecar.

    Args:
        person: Whom its header, its extensions, its sidecar and the name inside of the gzip file tell of.
        spacing: The first voxel size, unique in the set; in millimetres.
        rng: The choice.
    """
    plane = draw_anatomy("MR", rng)[:: 224 // SHAPE[0], :: 224 // SHAPE[1]][: SHAPE[0], : SHAPE[1]]
    voxels = np.repeat(
        np.pad(plane, [(0, SHAPE[0] - plane.shape[0]), (0, SHAPE[1] - plane.shape[1])])[..., None], 24, 2
    )
    image: Any = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([float(spacing), 1.2, 1.5, 1.0]))
    header = image.header
    header["descrip"] = phrase(person, rng, 79).encode("utf-8")[:79]
    header["aux_file"] = person.family.encode()[:23]
    header["intent_name"] = person.record.encode()[:15]
    header["db_name"] = person.account.encode()[:17]
    header.extensions.append(Nifti1DicomExtension(2, _dicom(person, rng)))
    header.extensions.append(Nifti1Extension("comment", phrase(person, rng, 200).encode("utf-8")))
    buffer = io.BytesIO()
    with gzip.GzipFile(f"{person.family}_{person.record}.nii", "wb", fileobj=buffer) as packed:
        packed.write(image.to_bytes())
    return buffer.getvalue(), _sidecar(person, spacing, rng)


def _dicom(person: Person, rng: np.random.Generator) -> Dataset:
    """The DICOM header of which a converter kept a copy."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality, dataset.PatientName, dataset.PatientID = "MR", person.name, person.record
    dataset.PatientBirthDate, dataset.StudyDate = (f"{day:%Y%m%d}" for day in person.dates)
    dataset.ImageComments, dataset.MagneticFieldStrength = phrase(person, rng, 400), "3"
    return dataset


def _sidecar(person: Person, spacing: str, rng: np.random.Generator) -> dict[str, Any]:
    """What dcm2niix writes when it is asked not to anonymise, with comments of a human."""
    return {
        "Modality": "MR",
        "MagneticFieldStrength": 3,
        "Manufacturer": "Nobody Imaging",
        "EchoTime": float(rng.integers(10, 99)) / 1000,
        "RepetitionTime": float(rng.integers(400, 6000)) / 1000,
        "SliceThickness": float(spacing),
        "PhaseEncodingDirection": "j-",
        "PatientName": person.name,
        "PatientID": person.record,
        "PatientBirthDate": person.born.isoformat(),
        "AcquisitionDateTime": f"{person.studied.isoformat()}T{clock(rng)[:6]}",
        "InstitutionName": person.hospital,
        "InstitutionAddress": f"{person.street}, {person.town}",
        "DeviceSerialNumber": person.device,
        "SeriesDescription": phrase(person, rng, 64),
        "global": {"const": {"ImageComments": phrase(person, rng, 200), "OperatorsName": [person.operator]}},
    }


def sidecar_bytes(content: dict[str, Any], rng: np.random.Generator) -> bytes:
    """JSON, half of it with letters beyond ASCII escaped."""
    return json.dumps(content, indent=1, ensure_ascii=bool(rng.random() < 0.5)).encode()
