"""NIfTI volumes: orientation, spacing and windows as nibabel and SimpleITK have them; masks; what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from gradiograph.data.nifti_files import open_nifti, with_mask
from gradiograph.data.refusals import Refused
from gradiograph.data.volumes import Preparation, Volume
from medical_specimens import PLANTED, decathlon_folder, noise, write_nifti

REAL = Path(__file__).parents[2] / "shared" / "data"
CT, HIPPOCAMPUS = REAL / "ct_totalseg", REAL / "hippocampus_mri"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data is absent")
PAIRS = [
    ("example_ct_sm", "example_seg"),
    ("example_ct", "spine_report_example_ct_report_totalseg"),
    ("aorta_report_test_result_models_ct_cropped", "aorta_report_test_result_models_aorta"),
    ("pulmonary_report_models_ct_cropped", "pulmonary_report_models_pulmonary_artery"),
    ("example_mr_sm", "example_seg_mr"),
]


def load(path, use="nifti", **settings):
    return registry.build("data", {"use": use, "path": path, **settings})


def as_ras(path):
    return nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32)


# Real CT and MR against independent readers


@needs_real
@pytest.mark.parametrize(("image", "mask"), PAIRS, ids=[name for name, _ in PAIRS])
def test_ct_and_mr_lie_as_nibabel_and_simpleitk_say(image, mask):
    path = CT / f"{image}.nii.gz"
    volume = with_mask(open_nifti(path, (-600, 1500)), CT / f"{mask}.nii.gz")
    canonical, itk = as_ras(path), SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    prepared, shape = Preparation(), canonical.shape
    assert prepared.shape(volume) == shape == itk.GetSize()
    assert np.allclose(prepared.in_plane(volume), itk.GetSpacing(), atol=1e-5)
    windowed = ((canonical + 600) / 1500 + 0.5).clip(0, 1)
    assert np.allclose(prepared.image(volume)[0], windowed, atol=1e-5)
    # SimpleITK's LPS is RAS with x and y turned.
    assert np.array_equal(SimpleITK.GetArrayFromImage(itk).T[::-1, ::-1], canonical)
    assert np.array_equal(prepared.mask(volume), as_ras(CT / f"{mask}.nii.gz").astype(int))


@needs_real
def test_resampled_ct_is_near_what_simpleitk_makes_of_it():
    path = CT / "example_ct_sm.nii.gz"
    volume = open_nifti(path, (0, 4000))
    ours = Preparation((4.5, 4.5, 6.0)).image(volume)[0] * 4000 - 2000
    itk = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32), "RAS")
    theirs = SimpleITK.Resample(
        itk,
        ours.shape,
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        itk.GetOrigin(),
        (4.5, 4.5, 6.0),
        itk.GetDirection(),
    )
    inner = (slice(1, -2),) * 3
    assert np.abs(ours - SimpleITK.GetArrayFromImage(theirs).T)[inner].max() < 1.0


@needs_real
def test_the_hippocampus_set_loads_whole():
    data = load(
        HIPPOCAMPUS / "images",
        masks=HIPPOCAMPUS / "labels",
        patient_pattern="(.*)",
        image_size=32,
        upsample=True,
        every=6,
        structures=["anterior", "posterior"],
        verify=False,
    )
    assert len({record.patient for record in data.records}) == 260
    assert not data.refused
    names = sorted(path.name for path in (HIPPOCAMPUS / "images").glob("*.nii.gz"))
    images, masks = data.read(range(12)), data.read_masks(range(12))
    assert (images.shape, masks.shape) == ((12, 1, 32, 32), (12, 32, 32))
    # The second record is the slice 6 of the first volume, as a reader sees it: cropped to its short edge.
    plane = as_ras(HIPPOCAMPUS / "labels" / names[0])[:, :, 6].T[::-1, ::-1]
    edge, rows = min(plane.shape), plane.shape[0]
    square = plane[(rows - edge) // 2 :][:edge]
    share = (square > 0).mean()
    assert abs((masks[1] > 0).mean() - share) < 0.03
    assert set(np.unique(masks)) <= {0, 1, 2}


@needs_real
def test_the_heart_lies_on_another_grid():
    image, heart = CT / "pulmonary_report_models_ct_cropped.nii.gz", CT / "pulmonary_report_models_heart.nii.gz"
    volume = open_nifti(image)
    with pytest.raises(Refused, match=r"mask on another grid \(233 x 167 x 191 voxels for 122 x 102 x 112"):
        with_mask(volume, heart)
    resampled = with_mask(volume, heart, other_grid=True).load_mask()
    itk = SimpleITK.Resample(
        SimpleITK.ReadImage(str(heart)),
        SimpleITK.ReadImage(str(image)),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
    )
    assert resampled.any()
    assert (resampled != SimpleITK.GetArrayFromImage(itk).T).mean() < 1e-3


# Orientation and cuts on made volumes


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL", "IRA"])
def test_slices_do_not_depend_on_how_the_file_stores_them(tmp_path, axes):
    values = noise((9, 11, 7), "axes", dtype=np.int16)
    write_nifti(tmp_path / "plain" / "sub-1.nii.gz", values, np.diag([1.0, 1, 1, 1]))
    orientation = nib.orientations.axcodes2ornt(axes)
    turned = nib.load(tmp_path / "plain" / "sub-1.nii.gz").as_reoriented(orientation)
    (tmp_path / "turned").mkdir()
    nib.save(turned, tmp_path / "turned" / "sub-1.nii.gz")
    for plane in ("axial", "coronal", "sagittal"):
        settings = {"image_size": 8, "plane": plane, "fractions": [1, 0, 0], "upsample": True}
        first, second = (load(tmp_path / name, **settings) for name in ("plain", "turned"))
        numbers = range(len(first.records))
        assert np.array_equal(first.read(numbers), second.read(numbers))


def test_a_reader_sees_right_on_the_left_and_anterior_up(tmp_path):
    """One bright voxel at the patient's right, anterior, superior corner."""
    values = np.zeros((8, 8, 8), np.int16)
    values[7, 7, 7] = 100
    write_nifti(tmp_path / "sub-1.nii.gz", values)
    for plane in ("axial", "coronal", "sagittal"):
        data = load(tmp_path, image_size=8, plane=plane, fractions=[1, 0, 0], window=[50, 100])
        assert np.argwhere(data.read(range(8))[:, 0]).tolist() == [[7, 0, 0]]
    data = load(tmp_path, unit="volume", size=[8, 8, 8], fractions=[1, 0, 0], window=[50, 100])
    assert np.argwhere(data.read([0])[0, 0]).tolist() == [[7, 7, 7]]


def test_patches_cover_every_voxel_and_pad_what_is_small(tmp_path):
    values = noise((10, 9, 5), "patches", dtype=np.int16)
    write_nifti(tmp_path / "sub-1.nii.gz", values)
    data = load(tmp_path, unit="patch", size=[8, 4, 4], fractions=[1, 0, 0], window=[2048, 4096])
    assert len(data.records) == 3 * 3 * 1
    patches = data.read(range(9))
    assert patches.shape == (9, 1, 8, 4, 4)
    seen = {round(float(value) * 4096) for value in patches.ravel()}
    assert set(values.ravel().tolist()) <= seen
    assert np.allclose(patches[0, 0, 1:6] * 4096, values[:4, :4].transpose(2, 1, 0), atol=0.01)
    assert patches[:, :, [0, 6, 7]].max() == 0


def test_anisotropic_slices_need_a_spacing_and_keep_their_scale_with_one(tmp_path):
    values = np.zeros((20, 20, 5), np.int16)
    values[5:15, 5:15] = 1000
    write_nifti(tmp_path / "sub-1.nii.gz", values, np.diag([1.0, 1, 4, 1]))
    settings = {"image_size": 20, "plane": "coronal", "fractions": [1, 0, 0], "window": [500, 1000]}
    with pytest.raises(BadInput, match=r"coronal pixels of 1.00 x 4.00 mm, which are not square. Set `spacing`"):
        load(tmp_path, **settings)
    data = load(tmp_path, spacing=[1, 1, 1], **settings)
    middle = data.read([10])[0, 0] > 0.5
    assert middle.any(axis=1).sum() in (17, 18, 19, 20)
    assert middle.any(axis=0).sum() == 10


def test_a_volume_of_one_slice_is_one_slice(tmp_path):
    write_nifti(tmp_path / "sub-1.nii.gz", noise((9, 9, 1), "one", dtype=np.int16))
    assert len(load(tmp_path, image_size=8, fractions=[1, 0, 0]).records) == 1


def test_a_fourth_dimension_is_channels_each_with_its_own_range(tmp_path):
    values = np.stack([noise((9, 9, 3), n, dtype=np.int16) * (1 + 7 * n) for n in range(2)], axis=-1)
    write_nifti(tmp_path / "sub-1.nii.gz", values)
    data = load(tmp_path, image_size=8, fractions=[1, 0, 0])
    assert data.image_shape == (2, 8, 8)
    images = data.read([0, 1, 2])
    assert images[:, 0].max() == images[:, 1].max() == 1
    with pytest.raises(BadInput, match="channels = 3 repeats a single channel"):
        load(tmp_path, image_size=8, fractions=[1, 0, 0], channels=3)


# Masks, lists and layouts


def test_the_decathlon_layout(tmp_path):
    data = load(decathlon_folder(tmp_path), use="decathlon", image_size=12, label="mask")
    assert data.classes == data.mask_classes == ("background", "box")
    assert len(data.records) == 30
    masks = data.read_masks(range(30))
    assert [record.label for record in data.records] == [int(mask.any()) for mask in masks]
    assert masks.sum() == 6 * 3 * 36
    assert "Each volume is taken for a patient of its own" in data.card
    assert PLANTED not in data.card


def test_masks_follow_their_images_through_spacing_and_patches(tmp_path):
    data = load(decathlon_folder(tmp_path), use="decathlon", unit="patch", size=[4, 8, 8], spacing=[2, 2, 1])
    masks = data.read_masks(range(len(data.records)))
    assert masks.shape[1:] == (4, 8, 8)
    assert set(np.unique(masks)) == {0, 1}
    assert 6 * 3 * 9 * 0.7 < masks.sum() < 6 * 3 * 9 * 3


def test_a_missing_mask_and_a_foreign_one_cost_their_image_only(tmp_path):
    root = decathlon_folder(tmp_path)
    (root / "labelsTr" / f"{PLANTED}_001.nii.gz").unlink()
    write_nifti(root / "labelsTr" / f"{PLANTED}_002.nii.gz", np.zeros((12, 14, 6), np.uint8))
    write_nifti(root / "labelsTr" / f"{PLANTED}_003.nii.gz", np.full((12, 14, 5), 9, np.uint8))
    write_nifti(root / "labelsTr" / f"{PLANTED}_004.nii.gz", np.full((12, 14, 5), 0.5, np.float32))
    data = load(root, use="decathlon", image_size=12, fractions=[1, 0, 0])
    assert len(data.records) == 2 * 5
    told = "\n".join(data.refused)
    for part in (
        "File 2 of 6 (in sorted order) has a mask that is not there",
        "File 3 of 6 (in sorted order) has a mask on another grid (12 x 14 x 6 voxels for 12 x 14 x 5",
        "The volume of file 4 of 6 (in sorted order) has a mask with values from 9 to 9; known are 0 to 1",
        "The volume of file 5 of 6 (in sorted order) has a mask with values that are no whole numbers",
    ):
        assert part in told
    assert PLANTED not in told


def test_an_index_of_volumes(tmp_path):
    for number in range(4):
        write_nifti(tmp_path / f"{number}.nii", noise((9, 9, 3), number, dtype=np.int16))
        write_nifti(tmp_path / "m" / f"{number}.nii", np.ones((9, 9, 3), np.uint8))
    rows = [[f"{n}.nii", f"m/{n}.nii", f"{PLANTED}{n // 2}", f"grade {n // 2}", f"hospital {n // 2}"] for n in range(4)]
    with (tmp_path / "index.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "mask", "patient", "label", "site"], *rows])
    data = load(tmp_path, image_size=8, index=tmp_path / "index.csv", fractions=[0.5, 0, 0.5])
    assert data.classes == ("grade 0", "grade 1")
    assert len({(record.patient, record.split, record.site) for record in data.records}) == 2
    assert data.read_masks([0]).all()


def damaged_gzip(path):
    path.write_bytes(path.read_bytes()[:200])


def empty(path):
    path.write_bytes(b"")


def other(path):
    path.write_bytes(gzip.compress(b"patient notes " * 100))


def no_gzip(path):
    path.write_bytes(b"patient notes " * 100)


def no_orientation(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[252:256] = bytes(4)
    path.write_bytes(gzip.compress(bytes(content)))


def huge(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:56] = np.array([3, 30000, 30000, 30000, 1, 1, 1, 1], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def far_voxels(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[108:112] = np.array([2e9], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def colours(path):
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), path)


def not_finite(path):
    write_nifti(path, np.full((9, 9, 3), np.nan, np.float32))


def flat(path):
    write_nifti(path, noise((9, 9), "flat", dtype=np.int16))


def collapsed(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = np.zeros(12, "<f4").tobytes()
    content[254:256] = np.array([1], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_gzip, "damaged or cut off"),
        (empty, "is empty: 0 bytes"),
        (other, "is no NIfTI file in one part"),
        (no_gzip, "damaged or cut off"),
        (no_orientation, "does not say how the patient lies in it"),
        (huge, "says that it has 30000 x 30000 x 30000 voxels; at most 536,870,912"),
        (far_voxels, "puts its voxels at byte 2e+09"),
        (colours, "holds colours or complex numbers"),
        (not_finite, "has voxels that are not finite"),
        (flat, "has 2 dimensions"),
        (collapsed, "has an orientation that places no voxel"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_file_gets_a_line_and_the_others_are_read(tmp_path, damage, message, capfd, caplog):
    for number in range(4):
        write_nifti(tmp_path / f"sub-{PLANTED}{number}.nii.gz", noise((9, 9, 3), number, dtype=np.int16))
    damage(tmp_path / f"sub-{PLANTED}1.nii.gz")
    data = load(tmp_path, image_size=8, fractions=[1, 0, 0])
    assert len(data.records) == 9
    (line,) = data.refused
    assert "file 2 of 4 (in sorted order)" in line.lower()
    assert message in line
    told = (line, data.card, caplog.text, *capfd.readouterr())
    assert not any(PLANTED in text for text in told)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "takes image_size, not size"),
        ({"unit": "patch", "image_size": 8}, r"takes size = \[D, H, W\]"),
        ({"image_size": 16}, "has axial slices of 9 x 9, fewer than image_size = 16"),
        ({"image_size": 8, "label": "mask"}, "label = 'mask' needs masks"),
        ({"image_size": 8, "patient_pattern": "x(.)"}, "do not match `patient_pattern`"),
        ({"image_size": 8, "spacing": [1, 0, 1]}, "millimetres above 0"),
        ({"image_size": 8, "label_column": "x"}, "`index` is not set"),
        ({"image_size": 8, "fractions": [0, 0, 0.5]}, "fractions"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, message):
    for number in range(4):
        write_nifti(tmp_path / f"sub-{PLANTED}{number}.nii.gz", noise((9, 9, 3), number, dtype=np.int16))
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path, **settings)
    assert PLANTED not in str(caught.value).replace("patient_pattern", "")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("3", "must be an object"),
        ('{"training": 3}', "must be a list"),
        ('{"training": []}', "has no items under 'training'"),
        ('{"training": [{"label": "x"}]}', "has no 'image'"),
        ('{"training": [{"image": "a.nii", "label": [1]}]}', "neither a class nor a file"),
        ('{"training": [{"image": "../a.nii"}], "labels": {"0": "b", "1": "c"}}', "outside of its folder"),
        (
            '{"training": [{"image": "a.nii"}, {"image": "a.nii"}], "labels": {"0": "b"}}',
            "names the image of the one before",
        ),
        ('{"training": [{"image": "a.nii"}], "labels": {"1": "b"}}', "numbered from 0 without a gap"),
        ('{"training": [{"image": "a.nii"}], "labels": {"0": "b"}}', "File 1 of 1 (in sorted order) is not there"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(BadInput) as caught:
        load(tmp_path, use="decathlon", image_size=8)
    assert message in str(caught.value)


def test_a_spacing_that_would_fill_the_memory(tmp_path):
    write_nifti(tmp_path / "sub-1.nii.gz", noise((9, 9, 3), 1, dtype=np.int16), np.diag([1e6, 1, 1, 1]))
    with pytest.raises(BadInput, match="would have more than 536,870,912 voxels at the spacing that is asked for"):
        load(tmp_path, image_size=8, spacing=[0.1, 0.1, 0.1], fractions=[1, 0, 0])


def test_labels_as_nnunet_has_them(tmp_path):
    root = decathlon_folder(tmp_path)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, "labels": {"background": 0, "box": 1}}))
    assert load(root, use="decathlon", image_size=12).mask_classes == ("background", "box")


def test_a_volume_must_have_a_mask_to_be_asked_for_one():
    bare = Volume(shape=(1, 1, 1), affine=np.eye(4), channels=1, load=lambda: np.zeros((1, 1, 1, 1), np.float32))
    with pytest.raises(Refused, match="has no mask"):
        Preparation().mask(bare)
