"""Train, validation and test by patient."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.data.splits import split_by_patient

FRACTIONS = (0.7, 0.1, 0.2)
films = st.lists(st.tuples(st.integers(0, 30).map(str), st.integers(0, 3)), min_size=1, max_size=80)
shares = st.sampled_from(
    [FRACTIONS, (0.5, 0.5, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.34, 0.33, 0.33), (0.9, 0.05, 0.05)]
)


def enough(drawn, fractions):
    return len({patient for patient, _ in drawn}) >= sum(share > 0 for share in fractions)


@given(films, shares, st.integers(0, 5))
def test_no_patient_is_in_two_splits_and_no_wanted_split_is_empty(drawn, fractions, seed):
    if not enough(drawn, fractions):
        with pytest.raises(DataProblem, match=r"patients cannot fill \d splits"):
            split_by_patient(*zip(*drawn, strict=True), fractions, seed)
        return
    splits = split_by_patient(*zip(*drawn, strict=True), fractions, seed)
    where = defaultdict(set)
    for (patient, _), split in zip(drawn, splits, strict=True):
        where[patient].add(split)
    assert all(len(found) == 1 for found in where.values())
    wanted = {name for name, share in zip(("train", "val", "test"), fractions, strict=True) if share}
    assert set(splits) == wanted


@given(films.filter(lambda drawn: enough(drawn, FRACTIONS)), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(drawn, seed, random):
    splits = split_by_patient(*zip(*drawn, strict=True), FRACTIONS, seed)
    shuffled = random.sample(range(len(drawn)), len(drawn))
    again = split_by_patient(*zip(*(drawn[i] for i in shuffled), strict=True), FRACTIONS, seed)
    assert again == tuple(splits[i] for i in shuffled)


@given(st.integers(0, 1000))
def test_every_label_is_near_the_fractions(seed):
    rng = numpy_stream(seed, "labels")
    patients, labels = [], []
    for patient in range(150):
        label = int(rng.choice(3, p=[0.6, 0.3, 0.1]))
        for _ in range(rng.integers(1, 4)):
            patients.append(f"p{patient}")
            labels.append(label)
    splits = split_by_patient(patients, labels, FRACTIONS, seed)
    for label in range(3):
        of_label = [split for split, own in zip(splits, labels, strict=True) if own == label]
        count = Counter(of_label)
        for name, share in zip(("train", "val", "test"), FRACTIONS, strict=True):
            # What one label is over or under, at most a patient of 3 films a split, may carry over to the next.
            assert abs(count[name] - share * len(of_label)) <= 6


def test_the_seed_decides_who_is_where():
    patients = [f"p{i}" for i in range(40)]
    labels = [i % 2 for i in range(40)]
    found = {split_by_patient(patients, labels, FRACTIONS, seed) for seed in range(5)}
    assert len(found) == 5
    assert split_by_patient(patients, labels, FRACTIONS, 3) in found
    counts = {tuple(sorted(Counter(splits).items())) for splits in found}
    assert counts == {(("test", 8), ("train", 28), ("val", 4))}


def test_every_patient_can_be_in_every_split():
    patients = [f"p{i}" for i in range(6)]
    seen = defaultdict(set)
    for seed in range(60):
        for patient, split in zip(patients, split_by_patient(patients, [0] * 6, (0.4, 0.2, 0.4), seed), strict=True):
            seen[patient].add(split)
    assert all(found == {"train", "val", "test"} for found in seen.values())


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.1), (1.5, -0.5, 0.0), (float("nan"), 0.5, 0.5), (float("inf"), 0, 0), (0.5, 0.5)]
)
def test_fractions_must_be_shares(fractions):
    with pytest.raises(BadSetting, match="that sum to 1"):
        split_by_patient(["a", "b", "c"], [0, 0, 0], fractions, 0)


def test_the_refusal_names_no_patient():
    with pytest.raises(DataProblem, match=r"^2 patients cannot fill 3 splits \(train, val, test\)") as caught:
        split_by_patient(["Hildegard", "Hildegunde"], [0, 1], FRACTIONS, 0)
    assert "Hilde" not in str(caught.value)
