"""Which patients are at which client."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.records import Dataset, Record
from gradiograph.data.sites import assign_clients

SPLITS = ("train", "val", "test")
alphas = st.sampled_from([None, 1e-300, 1e-3, 0.1, 1.0, 100.0, 1e12])


def dataset(films: list[tuple[int, int]], splits=SPLITS) -> Dataset:
    """Records of (patient, label); the patient's number decides the split."""
    records = tuple(
        Record(index=index, label=label, patient=f"Hildegard {patient}", split=splits[patient % len(splits)])
        for index, (patient, label) in enumerate(films)
    )
    return Dataset(
        name="made up",
        classes=("a", "b", "c"),
        records=records,
        image_shape=(1, 8, 8),
        read=lambda indices: np.zeros((len(indices), 1, 8, 8), np.float32),
    )


films = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), min_size=1, max_size=60)


@given(films, st.integers(1, 8), st.integers(0, 5), alphas)
def test_a_partition_by_patient(drawn, num_clients, seed, alpha):
    data = dataset(drawn)
    num_patients = len({patient for patient, _ in drawn})
    if num_patients < num_clients:
        with pytest.raises(DataProblem, match=f"^{num_patients} patients cannot be shared among {num_clients} clients"):
            assign_clients(data, num_clients, seed, alpha=alpha)
        return
    shared = assign_clients(data, num_clients, seed, alpha=alpha)
    assert replace(shared, records=tuple(replace(record, client=0) for record in shared.records)) == data
    client_of = defaultdict(set)
    for record in shared.records:
        client_of[record.patient].add(record.client)
    assert all(len(clients) == 1 for clients in client_of.values())
    sizes = Counter(next(iter(clients)) for clients in client_of.values())
    assert set(sizes) == set(range(num_clients))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for split in SPLITS:
        patients = {(record.patient, record.client) for record in shared.select(split=split)}
        here = Counter(client for _, client in patients)
        counts = [here[client] for client in range(num_clients)]
        assert max(counts) - min(counts) <= 1


@given(films, st.integers(0, 5), st.sampled_from([None, 0.3]), st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(drawn, seed, alpha, random):
    shuffled = random.sample(drawn, len(drawn))
    num_clients = min(4, len({patient for patient, _ in drawn}))
    before, after = (clients_by_patient(dataset(order), seed, alpha, num_clients) for order in (drawn, shuffled))
    assert before == after


def clients_by_patient(data: Dataset, seed: int, alpha: float | None, num_clients: int = 4) -> dict[str, int]:
    return {record.patient: record.client for record in assign_clients(data, num_clients, seed, alpha=alpha).records}


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_seed_decides(alpha):
    data = dataset([(patient, patient % 3) for patient in range(60)])
    assert clients_by_patient(data, 1, alpha) == clients_by_patient(data, 1, alpha)
    assert clients_by_patient(data, 1, alpha) != clients_by_patient(data, 2, alpha)


def skew(alpha: float | None) -> float:
    """The mean share of a client's most frequent label, over seeds; 1/3 is none, 1 is all."""
    data = dataset([(patient, patient % 3) for patient in range(300)], splits=("train",))
    shares = []
    for seed in range(10):
        records = assign_clients(data, 5, seed, alpha=alpha).records
        for client in range(5):
            count = Counter(record.label for record in records if record.client == client)
            shares.append(max(count.values()) / count.total())
    return float(np.mean(shares))


def test_alpha_sets_the_skew_of_labels():
    iid, mild, strong = skew(None), skew(1.0), skew(0.05)
    assert iid < 0.45
    assert abs(skew(1e6) - iid) < 0.03
    assert iid + 0.05 < mild < strong - 0.05
    # Five clients of 60 cannot all be pure when a label has 100 patients, so the limit is under 1.
    assert strong > 0.6


def test_the_mixture_of_a_client_is_the_same_in_every_split():
    films = [(patient, (patient // 3) % 3) for patient in range(900)]
    records = assign_clients(dataset(films), 10, 0, alpha=0.5).records
    shares = {split: np.zeros((10, 3)) for split in SPLITS}
    for record in records:
        shares[record.split][record.client, record.label] += 1
    assert np.corrcoef(shares["train"].ravel(), shares["test"].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("num_clients", "alpha"), [(0, None), (-1, 1.0), (2, 0.0), (2, -1.0), (2, float("nan")), (2, float("inf"))]
)
def test_bad_settings(num_clients, alpha):
    with pytest.raises(BadSetting, match="num_clients must be at least 1, alpha finite and above 0"):
        assign_clients(dataset([(0, 0), (1, 1), (2, 2)]), num_clients, 0, alpha=alpha)


def test_the_refusal_names_no_patient():
    with pytest.raises(DataProblem) as caught:
        assign_clients(dataset([(0, 0), (0, 1), (1, 1)]), 3, 0)
    assert str(caught.value).startswith("2 patients cannot be shared among 3 clients")
    assert "Hildegard" not in str(caught.value)


def with_sites(rows: list[tuple[int, str]]) -> Dataset:
    """Records of (patient, site)."""
    plain = dataset([(patient, 0) for patient, _ in rows], splits=("train",))
    placed = zip(plain.records, rows, strict=True)
    return replace(plain, records=tuple(replace(record, site=site) for record, (_, site) in placed))


def test_clients_are_the_sites_of_the_source_and_share_no_patient():
    data = with_sites([(0, "south"), (1, "north"), (1, "north"), (1, "south"), (2, "south")])
    placed = assign_clients(data, 2, 0, by_site=True)
    assert [record.client for record in placed.records] == [1, 0, 0, 0, 1]
    assert "1 patients of several sites" in placed.card
    assert "north" not in placed.card


def test_a_tie_goes_to_the_first_site():
    placed = assign_clients(with_sites([(0, "b"), (0, "a"), (1, "b")]), 2, 0, by_site=True)
    assert [record.client for record in placed.records] == [0, 0, 1]


@pytest.mark.parametrize(
    ("rows", "clients", "alpha", "message"),
    [
        ([(0, "a"), (1, "")], 1, None, "1 of 2 records name no site"),
        ([(0, "a"), (1, "b")], 3, None, "at 2 sites"),
        ([(0, "a"), (0, "b"), (0, "b")], 2, None, "at 1 sites (2 are named)"),
        ([(0, "a"), (1, "b")], 2, 0.5, "Choose one"),
    ],
)
def test_sites_that_cannot_be_clients(rows, clients, alpha, message):
    with pytest.raises((BadSetting, DataProblem)) as caught:
        assign_clients(with_sites(rows), clients, 0, alpha=alpha, by_site=True)
    assert message in str(caught.value)
