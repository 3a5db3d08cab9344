"""Which patients are at which client."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import derive_seed, numpy_stream
from gradiograph.data.splits import SPLITS, order_by_label

if TYPE_CHECKING:
    from gradiograph.core.records import Dataset


def assign_clients(dataset: Dataset, num_clients: int, seed: int, *, alpha: float | None = None) -> Dataset:
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

    Returns:
        A dataset with the same records and a `client` in [0, num_clients) in each.

    Raises:
        BadSetting: `num_clients` or `alpha` is out of range.
        DataProblem: fewer patients than clients.

    Source: Hsu, Qi, Brown 2019, arXiv 1909.06335, section 3. Differs from the paper: whole patients (with their most
    frequent label) are drawn instead of single images, so clients have equally many patients, not images; q is the
    same in every split.
    """
    if num_clients < 1 or (alpha is not None and not (isfinite(alpha) and alpha > 0)):
        msg = f"num_clients = {num_clients}, alpha = {alpha}: num_clients must be at least 1, alpha finite and above 0."
        raise BadSetting(msg)
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
    return replace(
        dataset, records=tuple(replace(record, client=client_of[record.patient]) for record in dataset.records)
    )


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
