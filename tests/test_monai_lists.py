"""Data lists of MONAI: volumes with masks or classes, pictures, splits, patients; as MONAI itself reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradiograph.data  # noqa: F401 - registers the component
from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from medical_specimens import PLANTED, decathlon_folder, noise, write_nifti


def volumes(root: Path, keys=("training", "training", "validation", "test")) -> Path:
    """Two volumes of each of four patients."""
    content: dict[str, list] = {}
    for number in range(8):
        name = f"{PLANTED}-{number}.nii.gz"
        write_nifti(root / name, noise((9, 9, 3), number, dtype=np.int16))
        item = {"image": name, "label": number % 2, "patient": f"{PLANTED} {number // 2}", "site": f"H{number // 4}"}
        content.setdefault(keys[number // 2], []).append(item)
    (root / "list.json").write_text(json.dumps(content))
    return root / "list.json"


def load(path, **settings):
    return registry.build("data", {"use": "monai", "path": path, **settings})


def test_the_lists_are_the_splits(tmp_path):
    data = load(volumes(tmp_path), image_size=8)
    assert data.classes == ("0", "1")
    assert [len(data.select(split=split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert len({(record.patient, record.split) for record in data.records}) == 4
    assert {record.site for record in data.records} == {"H0", "H1"}
    assert PLANTED not in repr(data)


def test_one_list_is_split_by_patient(tmp_path):
    data = load(volumes(tmp_path, keys=("training",) * 4), image_size=8, fractions=[0.5, 0, 0.5])
    assert len({(record.patient, record.split) for record in data.records}) == 4
    assert {record.split for record in data.records} == {"train", "test"}


def test_a_patient_in_two_lists_is_refused(tmp_path):
    path = volumes(tmp_path)
    content = json.loads(path.read_text())
    content["test"][0]["patient"] = content["training"][0]["patient"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="1 of 4 patients are in more than one split") as caught:
        load(path, image_size=8)
    assert PLANTED not in str(caught.value)


@pytest.mark.filterwarnings("ignore:NvImgCodec")  # MONAI's loader of all formats misses one that needs a GPU
def test_masks_are_those_that_monai_reads(tmp_path):
    from monai.data.decathlon_datalist import load_decathlon_datalist
    from monai.transforms.io.array import LoadImage

    root = decathlon_folder(tmp_path)
    load_image = LoadImage(reader="NibabelReader", image_only=True)
    theirs = load_decathlon_datalist(str(root / "dataset.json"), True, "training")
    data = load(
        root / "dataset.json",
        lists=["training"],
        patient_pattern="(.*)",
        unit="volume",
        size=[5, 14, 12],
        window=[2048, 4096],
        fractions=[1, 0, 0],
    )
    assert len(theirs) == len(data.records) == 6
    for number, item in enumerate(theirs):
        image, mask = (np.asarray(load_image(item[key])) for key in ("image", "label"))
        assert np.allclose(data.read([number])[0, 0] * 4096, image.transpose(2, 1, 0), atol=0.01)
        assert np.array_equal(data.read_masks([number])[0], mask.transpose(2, 1, 0))


def test_pictures(tmp_path):
    items = []
    for number in range(6):
        Image.fromarray(noise((20, 20), number, dtype=np.uint8, high=256)).save(tmp_path / f"{number}.png")
        items.append({"image": f"{number}.png", "label": f"class {number % 2}"})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.json").write_text(json.dumps(items))
    data = load(tmp_path / "lists" / "list.json", base=tmp_path, unit="image", image_size=16, patient_pattern="(.*)")
    assert (data.classes, data.image_shape, data.unit) == (("class 0", "class 1"), (1, 16, 16), "image")
    with pytest.raises(BadInput, match="Set another unit for volumes"):
        load(volumes(tmp_path), unit="image", image_size=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patient_key": "who"}, "do not match"),
        ({"image_size": None}, "takes image_size"),
        ({"base": "/nowhere"}, "None of the 8 files"),
        ({"lists": ["testing"]}, "is refused"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(BadInput, match=message) as caught:
        load(volumes(tmp_path), **{"image_size": 8, **settings})
    assert PLANTED not in str(caught.value)


def test_a_patient_for_some_items_only_is_refused(tmp_path):
    path = volumes(tmp_path)
    content = json.loads(path.read_text())
    del content["training"][0]["patient"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="1 of 8 items of the data list have no 'patient'"):
        load(path, image_size=8)
