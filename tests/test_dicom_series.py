"""Series of DICOM slices as volumes: order, orientation, spacing and values as SimpleITK has them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import CTImageStorage

from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from gradiograph.data.dicom_listing import Who, list_dicom
from gradiograph.data.dicom_series import assemble
from gradiograph.data.index import Columns
from gradiograph.data.volumes import Preparation
from medical_specimens import PLANTED, noise, sequence, uid, write_dicom, write_series

SHAPE = (14, 18, 6)
VALUES = noise(SHAPE, "series", high=2000).astype(np.int32) - 1000


def affine_of(axes: str = "RAS", spacing=(0.8, 0.8, 2.5), turn: float = 0.0) -> np.ndarray:
    """An affine in DICOM's LPS with the columns, rows and slices running along the given axes."""
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    directions = {"R": [-1, 0, 0], "L": [1, 0, 0], "A": [0, -1, 0], "P": [0, 1, 0], "S": [0, 0, 1], "I": [0, 0, -1]}
    columns = np.array([directions[axis] for axis in axes], float).T
    affine = np.eye(4)
    affine[:3, :3] = rotation @ columns * np.array(spacing)
    affine[:3, 3] = [-100.5, 30.25, 700]
    return affine


def volumes(folder, window="file"):
    listing = list_dicom(folder, None, Columns(mask=None), Who(label="none"))
    return assemble(listing.found, listing.total, window)


def itk_series(folder) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


# A series is right-handed: slices run along the normal, from either end.
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PSL", "LIP", "AIL"])
@pytest.mark.parametrize("turn", [0.0, 0.2])
def test_a_series_is_what_simpleitk_makes_of_it(tmp_path, axes, turn):
    folder = tmp_path / PLANTED
    write_series(folder, VALUES, affine_of(axes, turn=turn))
    ((case,), refused) = volumes(tmp_path)
    assert not refused
    theirs = itk_series(folder)
    assert case.volume.shape == theirs.GetSize()
    assert np.array_equal(case.volume.load()[0], SimpleITK.GetArrayFromImage(theirs).T)
    for index in ((0, 0, 0), (3, 5, 2), tuple(side - 1 for side in SHAPE)):
        left, posterior, superior = theirs.TransformContinuousIndexToPhysicalPoint(tuple(map(float, index)))
        ours = (case.volume.affine @ [*index, 1])[:3]
        assert np.allclose(ours, [-left, -posterior, superior], atol=1e-3)


def test_a_series_and_the_same_volume_in_nifti_give_the_same_slices(tmp_path):
    write_series(tmp_path / "series" / PLANTED, VALUES, affine_of("LPS"))
    nifti = nib.Nifti1Image(VALUES.astype(np.int16), np.diag([-1, -1, 1, 1]) @ affine_of("LPS"))
    nifti.header.set_sform(nifti.affine, 1)
    (tmp_path / "nifti").mkdir()
    nib.save(nifti, tmp_path / "nifti" / "sub-01_ct.nii.gz")
    settings = {"unit": "slice", "image_size": 12, "window": "lung", "fractions": [1, 0, 0]}
    dicom = registry.build("data", {"use": "dicom", "path": tmp_path / "series", "label": "none", **settings})
    other = registry.build("data", {"use": "nifti", "path": tmp_path / "nifti", **settings})
    assert len(dicom.records) == len(other.records) == SHAPE[2]
    assert np.allclose(dicom.read(range(6)), other.read(range(6)), atol=1e-5)


def test_an_axial_slice_is_shown_as_the_file_shows_it(tmp_path):
    write_series(tmp_path / PLANTED, VALUES[:, :14], affine_of("LPS"))
    data = registry.build(
        "data",
        {"use": "dicom", "path": tmp_path, "unit": "slice", "image_size": 14, "window": [0, 2000], "label": "none"}
        | {"fractions": [1, 0, 0]},
    )
    assert np.allclose(data.read([2])[0, 0], (VALUES[:, :14, 2].T + 1000) / 2000, atol=1e-3)


def test_an_enhanced_file_is_one_volume(tmp_path):
    affine = affine_of("LPS")
    order = np.array([3, 0, 5, 1, 4, 2])
    frames = [
        {"PlanePositionSequence": sequence({"ImagePositionPatient": list(affine[:3, 3] + affine[:3, 2] * number)})}
        for number in order
    ]
    shared = {
        "PlaneOrientationSequence": sequence({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}),
        "PixelMeasuresSequence": sequence({"PixelSpacing": [0.8, 0.8], "SliceThickness": 2.5}),
        "PixelValueTransformationSequence": sequence({"RescaleSlope": 1, "RescaleIntercept": -1024}),
        "FrameVOILUTSequence": sequence({"WindowCenter": 40, "WindowWidth": 400}),
    }
    groups = {
        "PerFrameFunctionalGroupsSequence": sequence(*frames),
        "SharedFunctionalGroupsSequence": sequence(shared),
    }
    pixels = (VALUES.transpose(2, 1, 0)[order] + 1024).astype(np.int16)
    write_dicom(tmp_path / "enhanced", pixels, Modality="CT", **groups)
    ((case,), _) = volumes(tmp_path)
    assert np.array_equal(case.volume.load()[0], VALUES)
    assert case.volume.window == (40, 400)
    assert np.allclose(Preparation().in_plane(case.volume), [0.8, 0.8, 2.5])


def test_one_slice_is_a_volume_of_one_slice(tmp_path):
    write_series(tmp_path / PLANTED, VALUES[:, :, :1], affine_of("LPS"))
    ((case,), _) = volumes(tmp_path)
    assert case.volume.shape == (14, 18, 1)
    assert np.allclose(Preparation().in_plane(case.volume), [0.8, 0.8, 2.5])


def test_two_series_of_one_patient_are_two_volumes(tmp_path):
    for name in ("first", "second"):
        write_series(tmp_path / name, VALUES, affine_of("LPS"), PatientID=PLANTED)
    cases, _ = volumes(tmp_path)
    assert [case.position for case in cases] == [1, 7]
    assert {case.entry.patient for case in cases} == {PLANTED}


def take_out(files):
    files[3].unlink()


def double(files):
    extra = files[2].with_name("extra.dcm")
    position = list(affine_of("LPS")[:3, 3] + affine_of("LPS")[:3, 2] * 2)
    rewrite(files[2], extra, SOPInstanceUID=uid("extra"), ImagePositionPatient=position)


def uneven(files):
    rewrite(files[2], files[2], ImagePositionPatient=[-100.5, 30.25, 700 + 2.5 * 2.4])


def turned(files):
    rewrite(files[2], files[2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


def no_place(files):
    rewrite(files[0], files[0], ImagePositionPatient=None)


def localizer(files):
    for file in files:
        rewrite(file, file, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def skewed(files):
    rewrite(files[2], files[2], ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    for file in files:
        rewrite(file, file, ImageOrientationPatient=[1, 0, 0, 0.5, 0.8, 0])


def rewrite(source, path, **elements):
    read = pydicom.dcmread(source)
    for keyword, value in elements.items():
        if value is None:
            delattr(read, keyword)
        else:
            setattr(read, keyword, value)
    read.save_as(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (take_out, r"lacks slices: 5.00 mm after slice 3, elsewhere 2.50 mm"),
        (double, "several slices at one place"),
        (uneven, "uneven distances between slices, from 1.50 to 3.50 mm"),
        (turned, "several orientations"),
        (no_place, "does not say where its slices lie"),
        (localizer, "is a localizer"),
        (skewed, "no pair of directions"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_no_volume_gets_a_line_and_the_others_are_read(tmp_path, change, message):
    change(write_series(tmp_path / f"{PLANTED}1", VALUES, affine_of("LPS")))
    write_series(tmp_path / f"{PLANTED}2", VALUES, affine_of("LPS"))
    cases, refused = volumes(tmp_path)
    assert len(cases) == 1
    (line,) = refused
    assert message in line
    assert PLANTED not in line


def test_a_tilted_gantry_is_refused(tmp_path):
    tilted = affine_of("LPS")
    tilted[1, 2] = 0.7
    write_series(tmp_path / PLANTED, VALUES, tilted)
    _, (line,) = volumes(tmp_path)
    assert "has a tilted gantry: slices drift 3.5 mm sideways" in line


def test_a_damaged_slice_costs_its_series_only(tmp_path):
    for patient in range(2):
        files = write_series(tmp_path / f"{PLANTED}{patient}", VALUES, affine_of("LPS"), SOPClassUID=CTImageStorage)
    files[2].write_bytes(files[2].read_bytes()[:-50])
    settings = {"use": "dicom", "path": tmp_path, "unit": "slice", "image_size": 8, "label": "none"}
    data = registry.build("data", {**settings, "fractions": [1, 0, 0]})
    assert len(data.records) == 6
    first, second = data.refused
    assert first.startswith(f"File {7 + int(files[2].stem)} of 12 (in sorted order) is cut off")
    assert second.startswith("The series of 5 files that begins with file 7 of 12 (in sorted order) lacks slices")
    assert "A record is one slice (there are 6, of 1 volumes), the unit of privacy is the patient (1)" in data.card


def test_spacing_resamples_and_patches_cover(tmp_path):
    for patient in range(2):
        write_series(tmp_path / f"{PLANTED}{patient}", VALUES, affine_of("LPS"))
    settings = {"use": "dicom", "path": tmp_path, "label": "none", "fractions": [1, 0, 0], "window": "soft_tissue"}
    volume = registry.build("data", {**settings, "unit": "volume", "size": [8, 16, 16], "spacing": [1, 1, 2]})
    assert volume.image_shape == (1, 8, 16, 16)
    patch = registry.build("data", {**settings, "unit": "patch", "size": [4, 9, 8]})
    assert len(patch.records) == 2 * 2 * 2 * 2
    with pytest.raises(BadInput, match=r"takes size = \[D, H, W\]"):
        registry.build("data", {**settings, "unit": "patch", "image_size": 16})
