"""MedMNIST from a local file and through its package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradiograph.data  # noqa: F401 - registers the component
from gradiograph import testing
from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from medical_specimens import noise

REAL = Path(__file__).parents[2] / "shared" / "data" / "medmnist" / "pneumoniamnist.npz"


def npz(path, shape=(28, 28), *, labels=1, counts=(6, 2, 3)) -> Path:
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{split}_images"] = noise((count, *shape), split, dtype=np.uint8, high=256)
        arrays[f"{split}_labels"] = noise((count, labels), split, "labels", dtype=np.uint8, high=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def load(path, **settings):
    return registry.build("data", {"use": "medmnist", "name": "pneumoniamnist", "path": path, **settings})


@pytest.mark.skipif(not REAL.is_file(), reason="the file ../shared/data/medmnist/pneumoniamnist.npz is absent")
def test_the_real_set():
    data = load(REAL)
    assert (data.classes, data.image_shape) == (("normal", "pneumonia"), (1, 28, 28))
    assert [len(data.select(split=split)) for split in ("train", "val", "test")] == [3882, 524, 624]
    with np.load(REAL) as arrays:
        assert np.array_equal(data.read([3882 + 524])[0, 0] * 255, arrays["test_images"][0])
        assert data.records[3882].label == arrays["val_labels"][0]
    assert (data.unit, data.privacy_unit) == ("image", "image")
    assert "its own splits may share a patient" in data.card


@pytest.mark.parametrize(
    ("shape", "settings", "image_shape"),
    [
        ((28, 28), {"channels": 3}, (3, 28, 28)),
        ((28, 28, 3), {}, (1, 28, 28)),
        ((28, 28, 3), {"channels": 3}, (3, 28, 28)),
        ((28, 28, 28), {}, (1, 28, 28, 28)),
        ((64, 64), {"size": 64}, (1, 64, 64)),
    ],
)
def test_it_keeps_the_contract(tmp_path, shape, settings, image_shape):
    file = npz(tmp_path / "set.npz", shape)
    testing.check_data(lambda: load(file, **settings))
    assert load(file, **settings).image_shape == image_shape


def test_a_folder_holds_it_under_its_name(tmp_path):
    npz(tmp_path / "pneumoniamnist_64.npz", (64, 64))
    assert len(load(tmp_path, size=64).records) == 11


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda path: None, {}, "is not there. Check `path`"),
        (lambda path: path.write_bytes(b"notes"), {}, "is damaged"),
        (lambda path: path.write_bytes(npz(path).read_bytes()[:-300]), {}, "is damaged"),
        (lambda path: npz(path, labels=14), {}, "has 14 labels an image"),
        (lambda path: npz(path), {"size": 64}, "images of 28 x 28, but size = 64"),
        (lambda path: np.savez(path, train_images=np.zeros(3)), {}, "none of MedMNIST"),
        (lambda path: np.savez(path, **dict.fromkeys(("train_images",), np.array([{}]))), {}, "is damaged"),
        (lambda path: None, {"name": "nomnist", "download": True}, "has no set 'nomnist'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, make, settings, message):
    make(tmp_path / "set.npz")
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path / "set.npz", **settings)
    assert str(tmp_path) not in str(caught.value)


def test_the_package_downloads_it(tmp_path, monkeypatch):
    """Its own download, with the network's part replaced by a copy."""
    from torchvision.datasets import utils

    def copy(url, root, filename, md5):
        assert url.startswith("https://zenodo.org/")
        npz(Path(root) / filename, counts=(4708, 524, 624))

    monkeypatch.setattr(utils, "download_url", copy)
    assert len(load(tmp_path / "new", download=True).records) == 5856
    monkeypatch.setattr(utils, "download_url", lambda **_: pytest.fail("it is there already"))
    load(tmp_path / "new", download=True)


def test_a_failed_download_is_one_message(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    def fail(**_):
        raise OSError

    monkeypatch.setattr(utils, "download_url", fail)
    with pytest.raises(BadInput, match="The download of 'pneumoniamnist' at size 28 failed"):
        load(tmp_path, download=True)


@pytest.mark.network
def test_a_real_download(tmp_path):
    data = registry.build("data", {"use": "medmnist", "name": "breastmnist", "path": tmp_path, "download": True})
    assert len(data.records) == 780
