"""The data component of DICOM images: labels, patients, sites, studies, frames, and an audit of X-rays."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gradiograph.cli import app
from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from gradiograph.data.sites import assign_clients
from medical_specimens import PLANTED, class_folder, noise, uid, write_dicom

REAL = Path(__file__).parents[2] / "shared" / "data" / "cxr_native16"


def load(path, **settings):
    return registry.build("data", {"use": "dicom", "path": path, "image_size": 16, **settings})


def test_class_folders_at_any_depth(tmp_path):
    data = load(class_folder(tmp_path))
    assert (data.classes, data.image_shape, data.unit) == (("normal", "opacity"), (1, 16, 16), "image")
    assert [record.label for record in data.records] == [0] * 6 + [1] * 6
    assert len({record.patient for record in data.records}) == 12
    assert (
        "A record is one image or frame (there are 12, of 12 files), the unit of privacy is the patient (12)"
        in data.card
    )
    assert not data.refused
    assert PLANTED not in repr(data)


def test_the_patient_is_the_header_s_not_the_folder_s(tmp_path):
    for number in range(6):
        write_dicom(tmp_path / "a" / f"{PLANTED}{number}", noise((20, 20), number), PatientID=f"P{number % 3} ")
    data = load(tmp_path)
    assert sorted({record.patient for record in data.records}) == ["P0", "P1", "P2"]
    assert len({(record.patient, record.split) for record in data.records}) == 3


def test_a_label_from_the_header(tmp_path):
    for number in range(6):
        write_dicom(tmp_path / f"{number}", noise((20, 20), number), BodyPartExamined=("CHEST", "HAND")[number % 2])
    assert load(tmp_path, label="BodyPartExamined").classes == ("CHEST", "HAND")
    assert load(tmp_path, label="none").classes == ("all",)
    with pytest.raises(BadInput, match="lies in no class folder"):
        load(tmp_path)


@pytest.mark.parametrize("label", ["PatientName", "PatientID", "StudyInstanceUID", "Nonsense"])
def test_labels_that_would_name_the_patient(tmp_path, label):
    with pytest.raises(BadInput):
        load(class_folder(tmp_path), label=label)


def test_scanners_are_sites_and_sites_are_clients(tmp_path):
    for number in range(9):
        scanner = {"Manufacturer": "Maker", "StationName": f"{PLANTED}{number % 3}"}
        write_dicom(tmp_path / "a" / f"{number}", noise((20, 20), number), PatientID=f"{PLANTED}{number}", **scanner)
    placed = assign_clients(load(tmp_path, site="scanner"), 3, 0, by_site=True)
    assert [record.client for record in placed.records] == [0, 1, 2] * 3
    assert placed.records[0].site == f"Maker / {PLANTED}0"
    assert PLANTED not in placed.card + repr(placed)


def test_frames_are_records_of_one_patient(tmp_path):
    for patient in range(3):
        write_dicom(tmp_path / "a" / f"{patient}", noise((4, 20, 20), patient), PatientID=f"P{patient}")
    data = load(tmp_path)
    assert [record.patient for record in data.records] == ["P0"] * 4 + ["P1"] * 4 + ["P2"] * 4
    assert len({image.tobytes() for image in data.read(range(12))}) == 12


def test_a_study_is_its_first_image(tmp_path):
    for patient in range(3):
        for number in (2, 1, 3):
            pixels = np.full((20, 20), 100 * number, np.uint16)
            pixels[0, 0], pixels[0, 1] = 0, 400
            content = {"PatientID": f"P{patient}", "StudyInstanceUID": uid(patient), "InstanceNumber": number}
            write_dicom(tmp_path / "a" / f"{patient}-{number}", pixels, **content)
    data = load(tmp_path, unit="study")
    assert (len(data.records), data.unit) == (3, "study")
    assert np.allclose(np.median(data.read([0, 1, 2]), axis=(1, 2, 3)), 0.25, atol=0.01)
    assert "6 further images of the same studies were left out" in data.card


def test_an_index_needs_its_files_only(tmp_path):
    class_folder(tmp_path / "films")
    files = sorted(path for path in (tmp_path / "films").rglob("IM*"))[:6]
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "split"])
        for number, file in enumerate(files):
            writer.writerow([file.relative_to(tmp_path / "films"), f"c{number % 2}", ("train", "test")[number % 2]])
    data = load(tmp_path / "films", index=tmp_path / "list.csv")
    assert data.classes == ("c0", "c1")
    assert [record.split for record in data.records] == ["train", "test"] * 3
    assert all(record.patient.startswith(PLANTED) for record in data.records)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 32}, r"is 28 x 24 pixels, smaller than image_size = 32. Lower image_size"),
        ({"modalities": ["CR"]}, "is of another modality than CR"),
        ({"size": [4, 4, 4]}, "takes image_size, and neither size nor spacing"),
        ({"image_size": None}, "takes image_size"),
        ({"site": "Nowhere"}, "'Nowhere' is no keyword"),
        ({"label_column": "finding"}, "`index` is not set"),
        ({"unit": "slice"}, "does not say where its slices lie"),
        ({"window": [0, 0]}, "width 0 must be above 0"),
        ({"window": "lungs"}, "'lungs' is refused"),
        ({"patient": "AccessionNumber"}, "AccessionNumber is empty"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(BadInput, match=message) as caught:
        load(class_folder(tmp_path), **settings)
    assert PLANTED not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_copies_are_taken_once(tmp_path):
    class_folder(tmp_path)
    first = next(path for path in sorted(tmp_path.rglob("IM*")))
    (tmp_path / "opacity" / "copy").write_bytes(first.read_bytes())
    (line,) = load(tmp_path).refused
    assert "is a copy of file 1" in line


# An audit of real X-rays as DICOM


def as_dicom(folder: Path, out: Path, *, shrink: int = 1) -> None:
    """The real films as digital X-rays, half of them MONOCHROME1, with a window; only ever in a tmp folder."""
    for number, path in enumerate(sorted(folder.rglob("*.jpeg"))):
        film = Image.open(path).convert("L")
        pixels = np.asarray(film.reduce(shrink), np.uint16) * 16
        turned = number % 2 == 1
        write_dicom(
            out / path.parent.name / f"{number:02d}.dcm",
            4080 - pixels if turned else pixels,
            PhotometricInterpretation="MONOCHROME1" if turned else "MONOCHROME2",
            PatientID=path.stem.rpartition("_")[0] or path.stem,
            BitsStored=12,
            HighBit=11,
            WindowCenter=2040,
            WindowWidth=4081,
        )


AUDIT = """
name = "dicom-x-rays"
purpose = "test of the readers"
authorised_by = "the test"
allow_identified = true
data = { use = "dicom", path = "films", image_size = 32, fractions = [0.5, 0.0, 0.5] }
victims = { split = "test", batches = 2, size = 2 }
task = { use = "lenet", num_classes = 2 }
protocol = { use = "fedsgd" }
threat = { knows_labels = true }
attacks = [{ use = "dlg", steps = 2 }]
metrics = ["mse"]
"""


needs_films = pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data/cxr_native16 is absent")


@needs_films
def test_x_rays_in_dicom_are_the_films(tmp_path):
    as_dicom(REAL, tmp_path)
    plain = registry.build("data", {"use": "folder", "path": REAL, "image_size": 32, "patient_pattern": "(.*)"})
    data = load(tmp_path, image_size=32)
    assert data.classes == plain.classes
    assert np.abs(data.read(range(16)) - plain.read(range(16))).max() < 0.002
    assert "the unit of privacy is the patient (15)" in data.card


# The audit's scan looks for text in the pixels: at full size that takes a minute of a core.
@needs_films
@pytest.mark.parametrize("shrink", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_an_audit_runs_on_x_rays_in_dicom(tmp_path, shrink):
    as_dicom(REAL, tmp_path / "films", shrink=shrink)
    (tmp_path / "audit.toml").write_text(AUDIT)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the unit of privacy is the patient (15)" in page
    assert "person1946" not in page


def test_the_command_says_what_was_refused_and_ends_with_1(tmp_path):
    class_folder(tmp_path / "films", patients=8)
    (tmp_path / "audit.toml").write_text(AUDIT.replace("image_size = 32", "image_size = 16"))
    whole = CliRunner().invoke(app, ["data", str(tmp_path / "audit.toml")])
    assert whole.exit_code == 0
    assert "A record is one image or frame (there are 16" in whole.output.replace("\n", " ")
    (tmp_path / "films" / "normal" / PLANTED).write_bytes(b"")
    (tmp_path / "films" / "normal" / f"{PLANTED}.txt").write_bytes(b"notes")
    for verb in (["data"], ["check"], ["run", "--out", str(tmp_path / "run")]):
        done = CliRunner().invoke(app, [verb[0], str(tmp_path / "audit.toml"), *verb[1:]])
        assert done.exit_code == 1
        told = done.output.replace("\n", " ")
        assert "Refused: File 1 of 18 (in sorted order) is empty: 0 bytes. Copy it again." in told
        assert "Refused: File 10 of 18" in told or "is no DICOM file" in told
        assert PLANTED not in told.replace(str(tmp_path), "")
