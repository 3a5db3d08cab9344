"""Which films are attacked: batches of distinct patients, in groups that serve each other as mismatched update."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradiograph.core.errors import DataProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.data.sites import assign_clients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.audit.spec import Victims
    from gradiograph.core.records import Dataset, Record


def choose_victims(dataset: Dataset, victims: Victims, summed: int = 1) -> tuple[tuple[Record, ...], ...]:
    """Batches of films of distinct patients; pairs of batches have the same classes in the same order.

    The mismatched control attacks one batch and scores the result against another of the same classes, so batches come
    in groups (the last may have three). Batch b is drawn from client b modulo the number of clients. Where the server
    sees the sum over several clients, a batch holds the films of each in turn, the next clients' after the first one's.

    Raises:
        DataProblem: a client has too few patients of a class.
    """
    sites = assign_clients(dataset, victims.clients, victims.seed, alpha=victims.dirichlet, by_site=victims.by_site)
    rng = numpy_stream(victims.seed, "victims")
    films = Counter(record.patient for record in sites.records)
    pool = [
        record
        for record in (sites.records[i] for i in rng.permutation(len(sites.records)))
        if victims.split in (None, record.split) and films[record.patient] >= victims.min_films
    ]
    taken: set[str] = set()
    batches = []
    for batch in range(victims.batches):
        labels = label_sequence(batch, victims, len(sites.classes), summed)
        records = [
            _draw(pool, label, (batch * summed + place // victims.size) % victims.clients, taken, sites, victims)
            for place, label in enumerate(labels)
        ]
        batches.append(tuple(records))
    return tuple(batches)


def label_sequence(batch: int, victims: Victims, num_classes: int, summed: int = 1) -> tuple[int, ...]:
    """The classes of a batch: all classes in turn, starting one further with each pair of batches.

    >>> from gradiograph.audit.spec import Victims
    >>> [label_sequence(b, Victims(batches=5, size=1), 2) for b in range(5)]
    [(0,), (0,), (1,), (1,), (1,)]
    """
    start = group_of(batch, victims.batches)
    return tuple((start + place) % num_classes for place in range(victims.size * summed))


def group_of(batch: int, batches: int) -> int:
    """The group of batches that serve each other as mismatched update: pairs, the last with three where odd."""
    return min(batch // 2, batches // 2 - 1)


def mismatched_batch(batch: int, batches: int, attacked: int | None = None) -> int:
    """The batch whose update stands in for this one's in the mismatched control: the next of its group.

    Args:
        batch: The batch that is scored.
        batches: All batches of victims.
        attacked: How many of them, from the first, are attacked; None means all.

    >>> [mismatched_batch(b, 5) for b in range(5)]
    [1, 0, 3, 4, 2]
    """
    attacked = batches if attacked is None else attacked
    group = [other for other in range(attacked) if group_of(other, batches) == group_of(batch, batches)]
    return group[(group.index(batch) + 1) % len(group)]


def _draw(pool: Sequence[Record], label: int, client: int, taken: set[str], sites: Dataset, victims: Victims) -> Record:
    for record in pool:
        if record.label == label and record.client == client and record.patient not in taken:
            taken.add(record.patient)
            return record
    have = len({r.patient for r in pool if r.label == label and r.client == client})
    several = f" with {victims.min_films} films" if victims.min_films > 1 else ""
    msg = (
        f"victims: {victims.batches} batches of {victims.size} need more patients of class '{sites.classes[label]}' "
        f"than the {have} of client {client} in split '{victims.split or 'all'}'{several}. "
        f"Lower victims.batches, victims.size{', victims.min_films' if several else ''} or victims.clients."
    )
    raise DataProblem(msg)
