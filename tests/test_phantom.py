"""The built-in chest phantom: determinism, anatomy across sizes, variety between patients, and its classes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gradiograph.core.errors import BadSetting
from gradiograph.core.records import Dataset
from gradiograph.core.registry import build
from gradiograph.data.phantom import phantom


@cache
def films(image_size: int = 64, patients: int = 12, films_per_patient: float = 1, seed: int = 0) -> Dataset:
    return phantom(image_size=image_size, patients=patients, films_per_patient=films_per_patient, seed=seed)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())


def test_same_seed_same_film_and_other_seed_other_film() -> None:
    first, again = phantom(patients=10), phantom(patients=10)
    np.testing.assert_array_equal(first.read([3, 0]), again.read([3, 0]))
    assert distance(first.read([0]), phantom(patients=10, seed=1).read([0])) > 1e-3


def test_read_keeps_the_order_and_repeats_and_does_not_hand_out_its_cache() -> None:
    data = films()
    images = data.read([5, 2, 5])
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(images[1], data.read([2])[0])
    images[:] = 0
    assert data.read([5]).max() > 0
    assert data.read([]).shape == (0, 1, 64, 64)


def test_more_patients_leave_the_earlier_ones_as_they_are() -> None:
    few, many = phantom(patients=10, films_per_patient=1.5), phantom(patients=31, films_per_patient=1.5)
    assert many.records[: len(few.records)] == few.records
    last = len(few.records) - 1
    np.testing.assert_array_equal(few.read([0, last]), many.read([0, last]))


def test_more_films_leave_the_first_film_as_it_is() -> None:
    one, three = films(patients=10), films(patients=10, films_per_patient=3)
    np.testing.assert_array_equal(one.read([4]), three.read([12]))
    assert three.records[12].patient == one.records[4].patient


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [16, 64, 100])
def test_shape_type_and_range(channels: int, image_size: int) -> None:
    data = build("data", {"use": "phantom", "channels": channels, "image_size": image_size, "patients": 10})
    images = data.read([0, 1, 2])
    assert data.image_shape == (channels, image_size, image_size)
    assert images.shape == (3, *data.image_shape)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=(1, 2, 3)).min() > 0.08
    np.testing.assert_array_equal(images, np.repeat(images[:, :1], channels, axis=1))


def test_bits_set_the_number_of_grey_levels() -> None:
    coarse = films(image_size=128, patients=10).read([1])
    fine = phantom(image_size=128, patients=10, bits=16).read([1])
    assert len(np.unique(coarse)) <= 256 < len(np.unique(fine))
    np.testing.assert_allclose(coarse, fine, atol=0.51 / 255)


@pytest.mark.parametrize(("small", "large"), [(64, 128), (32, 96), (128, 256)])
def test_the_anatomy_is_the_same_at_every_size(small: int, large: int) -> None:
    factor = large // small
    a = films(image_size=small, patients=10).read(range(6))
    b = films(image_size=large, patients=10).read(range(6))
    b = b.reshape(6, 1, small, factor, small, factor).mean((3, 5))
    same = np.square(a - b).mean((1, 2, 3))
    other = np.square(a - np.roll(b, 1, axis=0)).mean((1, 2, 3))
    assert same.max() < 2e-3
    assert (same < 0.1 * other).all()


def test_a_film_is_nearer_to_the_same_patients_than_to_most_others() -> None:
    data = films(patients=40, films_per_patient=2)
    images = data.read(range(80)).reshape(40, 2, -1)
    between = np.square(images[:, 0, None] - images[None, :, 1]).mean(2)
    nearer_others = (between < np.diag(between)[:, None]).mean(1)
    assert nearer_others.mean() < 0.03
    assert nearer_others.max() < 0.25
    assert np.diag(between).min() > 1e-5  # two films, not one twice


def test_patients_differ_as_much_as_patients_do() -> None:
    """Other patients of one class: 12.5 to 13.9 dB on real films of children at 128; here within 2 dB of that."""
    data = films(patients=200)
    for label in (0, 1):
        images = data.read([record.index for record in data.select(label=label)[:40]])
        errors = np.square(images - np.roll(images, 1, axis=0)).mean((1, 2, 3))
        psnr = (-10 * np.log10(errors)).mean()
        assert 11.5 < psnr < 15
        assert errors.min() > 5e-3


def test_lungs_are_dark_and_the_middle_is_bright() -> None:
    mean = films(patients=200).read([r.index for r in films(patients=200).select(label=0)[:40]]).mean((0, 1))
    right, left, middle, belly = mean[22:34, 14:22], mean[22:34, 42:50], mean[20:50, 30:34], mean[58:, 20:44]
    assert max(right.mean(), left.mean()) + 0.15 < min(middle.mean(), belly.mean())
    heart, opposite = mean[38:46, 36:42], mean[38:46, 22:28]
    assert heart.mean() > opposite.mean() + 0.1  # the heart lies on the image's right


def test_disease_makes_the_lungs_denser_and_can_be_learnt() -> None:
    data = films(patients=200)
    images = data.read(range(200))
    images = images.reshape(200, 16, 4, 16, 4).mean((2, 4)).reshape(200, -1)
    labels = np.array([record.label for record in data.records])
    held_out = np.array([record.split == "test" for record in data.records])
    model = LogisticRegression(C=0.05, max_iter=500).fit(images[~held_out], labels[~held_out])
    assert roc_auc_score(labels[held_out], model.decision_function(images[held_out])) > 0.75


@given(
    patients=st.integers(10, 120),
    mean=st.floats(1, 4),
    fractions=st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.8, 0.0, 0.2)]),
)
def test_splits_are_by_patient_and_stratified(
    patients: int, mean: float, fractions: tuple[float, float, float]
) -> None:
    data = phantom(patients=patients, films_per_patient=mean, fractions=fractions)
    assert [record.index for record in data.records] == list(range(len(data.records)))
    by_patient: dict[str, set[tuple[str, int]]] = {}
    for record in data.records:
        by_patient.setdefault(record.patient, set()).add((record.split, record.label))
    assert len(by_patient) == patients
    assert all(len(kinds) == 1 for kinds in by_patient.values())
    kinds = [next(iter(kind)) for kind in by_patient.values()]
    for label in (0, 1):
        of_class = [split for split, own in kinds if own == label]
        assert len(of_class) in {patients // 2, patients - patients // 2}
        for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
            assert abs(of_class.count(split) - fraction * len(of_class)) < 1.01
            assert (split in of_class) == (fraction > 0)
    assert abs(len(data.records) / patients - mean) < 0.5


@pytest.mark.parametrize(("label", "classes"), [("age", ("CHILD", "ADULT")), ("sex", ("FEMALE", "MALE"))])
def test_age_and_sex_are_labels_of_the_same_films_and_show_in_them(label: str, classes: tuple[str, str]) -> None:
    by_finding, by_label = phantom(patients=400, image_size=16), phantom(patients=400, image_size=16, label=label)
    assert by_label.classes == classes
    assert [r.patient for r in by_label.records] == [r.patient for r in by_finding.records]
    films, labels = by_label.read(range(400)), np.array([record.label for record in by_label.records])
    np.testing.assert_array_equal(films, by_finding.read(range(400)))
    assert 160 < labels.sum() < 240
    # Ridge regression on three quarters of the patients ranks the others better than a coin.
    pixels = films.reshape(400, -1) - films[:300].reshape(300, -1).mean(axis=0)
    known, rest = pixels[:300], pixels[300:]
    scores = rest @ np.linalg.solve(known.T @ known + 10 * np.eye(256), known.T @ (labels[:300] - 0.5))
    above = scores[labels[300:] == 1][:, None] > scores[labels[300:] == 0]
    assert above.mean() > 0.55


def test_a_whole_number_of_films_is_exact() -> None:
    data = phantom(patients=11, films_per_patient=3)
    assert len(data.records) == 33
    assert data.select(label=0)[:3] == data.records[:3]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 15),
        ("image_size", 1025),
        ("patients", 9),
        ("films_per_patient", 0.5),
        ("films_per_patient", 11),
        ("channels", 2),
        ("bits", 12),
        ("fractions", (0.7, 0.2)),
        ("fractions", (0.9, -0.1, 0.2)),
        ("fractions", (0.7, 0.2, 0.2)),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: object) -> None:
    with pytest.raises(BadSetting, match=key):
        build("data", {"use": "phantom", key: value})
