"""De-identification of NIfTI volumes and what lies beside them."""

import gzip
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1DicomExtension, Nifti1Extension
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from gradiograph import deid
from gradiograph.core.errors import DataProblem
from gradiograph.deid.names import new_name
from gradiograph.deid.nifti import deidentify_nifti
from gradiograph.deid.sidecar import deidentify_sidecar

KEY = deid.Pseudonyms(bytes(range(32)))
NAME = "VILLANUEVA"
REAL = Path(__file__).parents[2] / "shared" / "data"


def volume(kind=nibabel.Nifti1Image, dtype=np.int16):
    voxels = np.arange(4 * 5 * 6, dtype=dtype).reshape(4, 5, 6)
    made = kind(voxels, np.array([[-2, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1.0]]))
    made.header["descrip"] = f"{NAME} 1961".encode()
    made.header["aux_file"] = b"VILLANUEVA.doc"
    made.header.extensions.append(Nifti1Extension("comment", f"seen by {NAME}".encode()))
    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dicom.PatientName, dicom.PatientID, dicom.StudyDate, dicom.MagneticFieldStrength = NAME, "A1234567", "20240301", "3"
    made.header.extensions.append(Nifti1DicomExtension(2, dicom))
    return made


def packed(content):
    buffer = io.BytesIO()
    with gzip.GzipFile(f"{NAME}.nii", "wb", fileobj=buffer) as file:
        file.write(content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("pack", [bytes, packed])
def test_voxels_and_geometry_stay_and_names_go(kind, pack):
    before = volume(kind)
    made = deidentify_nifti(pack(before.to_bytes()), deid.Profile(), KEY).content
    assert (made[:2] == b"\x1f\x8b") == (pack is packed)
    assert NAME.encode() not in made
    raw = gzip.decompress(made) if pack is packed else made
    assert NAME.encode() not in raw
    assert b"A1234567" not in raw
    after = kind.from_bytes(raw)
    np.testing.assert_array_equal(after.dataobj, before.dataobj)
    np.testing.assert_allclose(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    (extension,) = after.header.extensions
    kept = extension.get_content()
    assert kept.MagneticFieldStrength == 3
    assert kept.PatientIdentityRemoved == "YES"
    assert kept.PatientID == KEY.name("patient", "A1234567")


def test_bytes_after_the_voxels_are_cut_off():
    made = deidentify_nifti(volume().to_bytes() + NAME.encode(), deid.Profile(), KEY).content
    assert NAME.encode() not in made


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Not a NIfTI file"),
        (packed(volume().to_bytes())[:200], "cannot be unpacked"),
        (volume().to_bytes()[:-10], "promises 240 bytes of voxels; the file has 230"),
        (b"\x5c\x01\0\0" + b"\0" * 400, "Not a NIfTI file"),
    ],
)
def test_damaged_volumes_are_refused(content, reason):
    with pytest.raises(DataProblem, match=reason):
        deidentify_nifti(content, deid.Profile(), KEY)


def test_a_volume_as_large_as_a_head_is_warned_of(tmp_path):
    head = nibabel.Nifti1Image(np.zeros((64, 64, 64), np.uint8), np.diag([3.5, 3.5, 3.0, 1]))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scan.nii").write_bytes(head.to_bytes())
    (tmp_path / "in" / "small.nii").write_bytes(volume().to_bytes())
    found = deid.deidentify_folder(tmp_path / "in", tmp_path / "out", deid.Profile(), KEY)
    assert found["warnings"] == {"head volume: a face can be made from it": 1}
    assert any("face" in what for what in found["not_checked"])


def test_sidecars_keep_what_readers_need():
    entries = {
        "Modality": "MR", "EchoTime": 0.03, "PhaseEncodingDirection": "j-", "SliceTiming": [0, 0.5],
        "Manufacturer": "Maker",
        "PatientName": NAME, "PatientBirthDate": "1961-04-30", "AcquisitionDateTime": "2024-03-01T10:00:00",
        "SeriesDescription": f"T1 of {NAME}", "ConversionSoftware": "call +1-924-642-5450", "Notes": "anything",
        "global": {"const": {"ImageComments": NAME, "FlipAngle": 90}},
    }  # fmt: skip
    content = json.dumps(entries).encode()
    basic = json.loads(deidentify_sidecar(content, deid.Profile(), str)[0])
    assert basic == {
        "Modality": "MR", "EchoTime": 0.03, "PhaseEncodingDirection": "j-", "SliceTiming": [0, 0.5],
        "Manufacturer": "Maker",
        "global": {"const": {"FlipAngle": 90}},
    }  # fmt: skip
    options = frozenset({deid.Option.CLEAN_DESCRIPTORS})
    assert json.loads(deidentify_sidecar(content, deid.Profile(options), str)[0])["SeriesDescription"] == "T1 of"
    with pytest.raises(DataProblem, match="Not a JSON file"):
        deidentify_sidecar(b"{", deid.Profile(), str)


def test_names_find_each_other_again():
    image, mask = (new_name(f"{folder}/villanueva_007.nii.gz", KEY) for folder in ("imagesTr", "labelsTr"))
    assert image.startswith("imagesTr/")
    assert Path(image).name == Path(mask).name
    assert "villanueva" not in image
    bids = new_name("sub-VILLANUEVA/ses-2024/anat/sub-VILLANUEVA_ses-2024_run-01_T1w.json", KEY)
    subject = KEY.name("path", "VILLANUEVA")[:8]
    assert bids.startswith(f"sub-{subject}/ses-")
    assert bids.endswith("_run-01_T1w.json")
    assert "2024" not in bids
    assert new_name("imagesTr/BRATS_001_0002.nii.gz", KEY).endswith("_0002.nii.gz")


def test_a_decathlon_list_follows_its_files(tmp_path):
    source = tmp_path / "in"
    for folder in ("imagesTr", "labelsTr"):
        (source / folder).mkdir(parents=True)
        (source / folder / f"{NAME}_1.nii.gz").write_bytes(packed(volume().to_bytes()))
    listed = {"image": f"./imagesTr/{NAME}_1.nii.gz", "label": f"./labelsTr/{NAME}_1.nii.gz"}
    layout = {"name": NAME, "labels": {"0": "background", "1": "Anterior"}, "numTraining": 1, "training": [listed]}
    (source / "dataset.json").write_text(json.dumps(layout))
    found = deid.deidentify_folder(source, tmp_path / "out", deid.Profile(), KEY)
    assert found["refused"] == []
    made = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert made["labels"] == layout["labels"]
    assert "name" not in made
    for path in made["training"][0].values():
        assert (tmp_path / "out" / path).is_file()


@pytest.mark.skipif(not REAL.exists(), reason="the real data of ../shared is absent")
def test_real_volumes_keep_every_voxel():
    for path in (
        REAL / "ct_totalseg" / "example_ct_sm.nii.gz",
        *sorted((REAL / "hippocampus_mri").rglob("*.nii.gz"))[:2],
    ):
        made = deidentify_nifti(path.read_bytes(), deid.Profile(), KEY).content
        before, after = nibabel.load(path), nibabel.Nifti1Image.from_bytes(gzip.decompress(made))
        np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))
        np.testing.assert_array_equal(after.affine, before.affine)
