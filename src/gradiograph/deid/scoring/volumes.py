"""Whether NIfTI files and sidecars lost what tells of a patient and kept what tells of the image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.deid.scoring.leaks import Finder
    from gradiograph.deid.scoring.tally import Tally

FIELDS, EXTENSIONS, KEPT, SIDECAR = "NIfTI text field", "NIfTI extension", "clinical element kept", "sidecar entry"
_TEXTS = ("descrip", "aux_file", "intent_name", "db_name")
_NEEDED = (
    "Modality",
    "MagneticFieldStrength",
    "EchoTime",
    "RepetitionTime",
    "SliceThickness",
    "PhaseEncodingDirection",
)


def judge_volume(original: Path, output: Path, file: int, patient: int, tally: Tally, finder: Finder) -> None:
    """Judge one NIfTI file: text fields and extensions clean, voxels, affine and type as they were."""
    before: Any = nibabel.load(original)
    after: Any = nibabel.load(output)
    for field in _TEXTS:
        tally.add(FIELDS, right=not finder.search(after.header[field].tobytes(), patient), file=file, place=field)
    for number, extension in enumerate(before.header.extensions):
        code = extension.get_code()
        content = b"".join(_raw(other) for other in after.header.extensions if other.get_code() == code)
        tally.add(EXTENSIONS, right=not finder.search(content, patient), file=file, place=f"{number}: ecode {code}")
    same = {
        "affine": np.allclose(before.affine, after.affine, atol=1e-4),
        "type": before.get_data_dtype() == after.get_data_dtype(),
        "voxels": before.shape == after.shape and np.array_equal(before.dataobj, after.dataobj),
    }
    for name, right in same.items():
        tally.add(KEPT, right=bool(right), file=file, place=name, note="changed")


def judge_sidecar(original: Path, output: Path, file: int, patient: int, tally: Tally, finder: Finder) -> None:
    """Judge one sidecar: each entry that was planted in is clean, each entry that readers need is as it was."""
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (original, output))
    for name, value in before.items():
        if finder.search(json.dumps(value, ensure_ascii=False).encode(), patient):
            left = finder.search(json.dumps(after.get(name), ensure_ascii=False).encode(), patient)
            tally.add(SIDECAR, right=not left, file=file, place=name)
    for name in _NEEDED:
        tally.add(KEPT, right=after.get(name) == before[name], file=file, place=name, note="gone or changed")


def _raw(extension: nibabel.nifti1.Nifti1Extension) -> bytes:
    content = extension.get_content()
    return content if isinstance(content, bytes) else str(content).encode("utf-8")
