"""Which patients are at which client."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import derive_seed, numpy_stream
from gradiograph.data.splits import SPLITS, order_by_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradiograph.core.records import Dataset


def assign_clients(
    dataset: Dataset, num_clients: int, seed: int, *, alpha: float | None = None, by_site: bool = False
) -> Dataset:
    """The dataset with every patient at one client.

    Patients of each split are dealt out in turn, so clients differ by at most one patient in all, and in each split.
    With `alpha`, each client draws its mixture of labels once, q ~ Dirichlet(alpha p) with p the shares of the labels
    among all patients, and takes in its turn a patient of a label drawn from q, among the labels that are left.

    Args:
        dataset: Records with patients, labels and splits.
        num_clients: At least 1, at most the number of patients.
        seed: Changes who is where.
        alpha: Concentration > 0: near 0 a client has one label, as far as there are enough patients of it; for large
            values all are alike. None is IID.
        by_site: Each site that the source names (a hospital, a scanner) is a client, in sorted order. A patient of
            several sites is at the one with most of their records, the first of these where tied.

    Returns:
        A dataset with the same records and a `client` in [0, num_clients) in each.

    Raises:
        BadSetting: `num_clients` or `alpha` is out of range, or `alpha` and `by_site` are both given.
        DataProblem: fewer patients than clients; with `by_site`, not as many sites as clients, or records without one.

    Source: Hsu, Qi, Brown 2019, arXiv 1909.06335, section 3. Differs from the paper: whole patients (with their most
    frequent label) are drawn instead of single images, so clients have equally many patients, not images; q is the
    same in every split.
    """
    if num_clients < 1 or (alpha is not None and not (isfinite(alpha) and alpha > 0)):
        msg = f"num_clients = {num_clients}, alpha = {alpha}: num_clients must be at least 1, alpha finite and above 0."
        raise BadSetting(msg)
    if by_site:
        return _at_own_sites(dataset, num_clients, alpha)
    patients = [record.patient for record in dataset.records]
    label_of = order_by_label(patients, [record.label for record in dataset.records], "clients", seed)
    if len(label_of) < num_clients:
        msg = (
            f"{len(label_of)} patients cannot be shared among {num_clients} clients: each needs a patient of its own. "
            f"Set the number of clients to {len(label_of)} or less, or add patients."
        )
        raise DataProblem(msg)
    shuffled = sorted(label_of, key=lambda patient: (derive_seed(seed, "clients", "turn", patient), patient))
    # A patient has one split: data components see to that.
    split_of = {record.patient: record.split for record in dataset.records}
    deal = _Deal(label_of, num_clients, seed, alpha)
    client_of: dict[str, int] = {}
    for split in SPLITS:
        client_of |= deal.out([patient for patient in shuffled if split_of[patient] == split])
    return _at(dataset, client_of)


def _at(dataset: Dataset, client_of: Mapping[str, int]) -> Dataset:
    return replace(
        dataset, records=tuple(replace(record, client=client_of[record.patient]) for record in dataset.records)
    )


def _at_own_sites(dataset: Dataset, num_clients: int, alpha: float | None) -> Dataset:
    if alpha is not None:
        msg = f"alpha = {alpha} mixes patients over clients, by_site leaves each where the source has them. Choose one."
        raise BadSetting(msg)
    nowhere = sum(not record.site for record in dataset.records)
    if nowhere:
        msg = (
            f"{nowhere} of {len(dataset.records)} records name no site. Give the data an index with a column for the "
            "site (`site_column`), or for DICOM set `site`, such as site = 'scanner'."
        )
        raise DataProblem(msg)
    sites = sorted({record.site for record in dataset.records})
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for record in dataset.records:
        votes[record.patient][sites.index(record.site)] += 1
    client_of = {patient: min(count, key=lambda site: (-count[site], site)) for patient, count in votes.items()}
    homes = len(set(client_of.values()))
    if homes != num_clients:
        msg = (
            f"{num_clients} clients are asked for, but the patients of this source are at {homes} sites "
            f"({len(sites)} are named). Set the number of clients to {homes}."
        )
        raise DataProblem(msg)
    numbers = {site: number for number, site in enumerate(sorted(set(client_of.values())))}
    moved = sum(len(count) > 1 for count in votes.values())
    remark = (
        f" Sites are the source's own; {moved} patients of several sites are at the one with most of their records."
    )
    placed = _at(dataset, {patient: numbers[site] for patient, site in client_of.items()})
    return replace(placed, card=dataset.card + remark)


class _Deal:
    """Deals patients out in turn; the turn goes on from one call to the next."""

    def __init__(self, label_of: dict[str, int], num_clients: int, seed: int, alpha: float | None) -> None:
        self.label_of = label_of
        self.num_clients = num_clients
        self.generator = numpy_stream(seed, "clients", "labels")
        self.turn = 0
        self.labels, counts = np.unique(list(label_of.values()), return_counts=True)
        shares = counts / counts.sum()
        self.mixtures = None if alpha is None else self.generator.dirichlet(alpha * shares, size=num_clients)

    def out(self, patients: list[str]) -> dict[str, int]:
        """Give each patient to a client."""
        waiting = {label: [patient for patient in patients if self.label_of[patient] == label] for label in self.labels}
        client_of = {}
        for patient in patients:
            client = self.turn % self.num_clients
            taken = patient if self.mixtures is None else waiting[self._draw(self.mixtures[client], waiting)].pop()
            client_of[taken] = client
            self.turn += 1
        return client_of

    def _draw(self, mixture: np.ndarray, waiting: dict[int, list[str]]) -> int:
        left = np.array([len(waiting[label]) for label in self.labels])
        weights = np.where(left > 0, mixture, 0.0)
        if weights.sum() == 0:
            # None of the labels that this client has a share of is left: take from the others as they are.
            weights = left.astype(float)
        return int(self.generator.choice(self.labels, p=weights / weights.sum()))
