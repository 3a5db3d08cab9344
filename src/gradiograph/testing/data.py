"""What a data component promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from gradiograph.core.records import Dataset, Split, Unit
from gradiograph.testing.contract import assert_frozen, global_randomness_untouched, run_checks


def check_data(build: Callable[[], Dataset]) -> None:
    """Check a data set: records, splits by patient, pixels, and that no patient shows in what is printed.

    Args:
        build: Makes the data set, the same one each time; at least two records.

    Raises:
        ContractBroken: a promise is broken.
    """
    dataset = build()
    run_checks(_Trial(dataset, build), _CHECKS, f"data '{dataset.name}'")


@dataclass(frozen=True)
class _Trial:
    dataset: Dataset
    build: Callable[[], Dataset]


def _is_frozen(trial: _Trial) -> None:
    """It is a `Dataset` with a name, a card, classes, and records."""
    dataset = trial.dataset
    assert isinstance(dataset, Dataset), f"{type(dataset).__name__} is no Dataset"
    assert_frozen(dataset)
    assert dataset.name, "no name"
    assert dataset.card, "no card: where the images come from, in words"
    assert len(set(dataset.classes)) == len(dataset.classes), f"a class is given twice: {dataset.classes}"
    assert len(dataset.records) >= 2, f"{len(dataset.records)} records"


def _records(trial: _Trial) -> None:
    """Records are numbered in order; labels are classes; splits have valid names."""
    dataset = trial.dataset
    assert [record.index for record in dataset.records] == list(range(len(dataset.records))), (
        "indices are not 0, 1, ..."
    )
    labels = {record.label for record in dataset.records}
    assert labels <= set(range(len(dataset.classes))), f"labels {sorted(labels)}, classes {dataset.classes}"
    splits = {record.split for record in dataset.records}
    assert splits <= set(get_args(Split)), f"splits {sorted(splits)}, allowed are {get_args(Split)}"


def _splits_by_patient(trial: _Trial) -> None:
    """No patient is in two splits."""
    splits = defaultdict(set)
    for record in trial.dataset.records:
        splits[record.patient].add(record.split)
    shared = sum(len(found) > 1 for found in splits.values())
    assert not shared, f"{shared} of {len(splits)} patients are in more than one split"


def _pixels(trial: _Trial) -> None:
    """`read` gives float32 (n, *image_shape) in [0, 1]."""
    pixels = trial.dataset.read([0, 1])
    shape = (2, *trial.dataset.image_shape)
    assert pixels.shape == shape, f"shape {pixels.shape}, expected {shape}"
    assert pixels.dtype == np.float32, f"dtype {pixels.dtype}"
    assert bool(np.isfinite(pixels).all()), "not finite"
    assert pixels.min() >= 0, f"values from {pixels.min()}"
    assert pixels.max() <= 1, f"values up to {pixels.max()}"


def _masks(trial: _Trial) -> None:
    """`read_masks` gives int64 (n, *spatial), indices into `mask_classes`; without masks there are no such classes."""
    dataset = trial.dataset
    if dataset.read_masks is None:
        assert not dataset.mask_classes, "mask_classes without read_masks"
        return
    assert len(dataset.mask_classes) >= 2, f"mask_classes {dataset.mask_classes}: background and a structure at least"
    masks = dataset.read_masks([1, 0])
    shape = (2, *dataset.image_shape[1:])
    assert masks.shape == shape, f"mask shape {masks.shape}, expected {shape}"
    assert masks.dtype == np.int64, f"mask dtype {masks.dtype}"
    values = set(np.unique(masks).tolist())
    assert values <= set(range(len(dataset.mask_classes))), f"mask values {values}, classes {dataset.mask_classes}"
    assert np.array_equal(masks, dataset.read_masks([0, 1])[::-1]), "masks are not in the order that was asked for"


def _states_its_units(trial: _Trial) -> None:
    """It says what a record is and whose privacy counts; one patient a record where the source has no patients."""
    dataset = trial.dataset
    assert dataset.unit in get_args(Unit), f"unit {dataset.unit!r}, allowed are {get_args(Unit)}"
    assert dataset.privacy_unit in {"patient", "image"}, f"privacy unit {dataset.privacy_unit!r}"
    patients = {record.patient for record in dataset.records}
    if dataset.privacy_unit == "image":
        assert len(patients) == len(dataset.records), "a privacy unit of 'image' with patients of several records"


def _in_order(trial: _Trial) -> None:
    """`read` keeps the order that is asked for, any order, the last record too."""
    last = len(trial.dataset.records) - 1
    forth, back = trial.dataset.read([0, last]), trial.dataset.read([last, 0])
    assert np.array_equal(forth, back[::-1]), "read([0, n]) is not read([n, 0]) turned round"


def _fresh_pixels(trial: _Trial) -> None:
    """Writing to what `read` returned does not change what it returns next."""
    first = trial.dataset.read([0])
    kept = first.copy()
    first += 1.0
    assert np.array_equal(trial.dataset.read([0]), kept), "the second read differs"


def _is_deterministic(trial: _Trial) -> None:
    """Built twice it has the same records and pixels, and no global randomness is used."""
    with global_randomness_untouched():
        other = trial.build()
    assert other.records == trial.dataset.records, "records differ"
    assert np.array_equal(other.read([0, 1]), trial.dataset.read([0, 1])), "pixels differ"


def _hides_patients(trial: _Trial) -> None:
    """No patient identifier shows in the representation of a record or of the card."""
    for record in trial.dataset.records[:50]:
        assert f"patient={record.patient!r}" not in repr(record), "a record's representation names its patient"
    longer = {record.patient for record in trial.dataset.records if len(record.patient) >= 4}
    named = sum(patient in trial.dataset.card for patient in longer)
    assert not named, f"the card names {named} patients"


_CHECKS = (
    _is_frozen,
    _records,
    _splits_by_patient,
    _pixels,
    _masks,
    _states_its_units,
    _in_order,
    _fresh_pixels,
    _is_deterministic,
    _hides_patients,
)
