"""How near is near: every score between two films of one patient, and between films of two patients of a class."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.audit.films import Selection, evenly_spaced
from gradiograph.core.seeds import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gradiograph.audit.films import AuditFilms
    from gradiograph.audit.judges import Judges
    from gradiograph.core.records import Record

PAIRS = 400
"""At most so many of each kind."""
FALSE_ALARMS = 0.01
"""The share of pairs of two patients that may be nearer than the threshold."""
_BLOCK = 64
_QUANTILES = (0.05, 0.5, 0.95)

Pair = tuple[tuple[Selection, int], tuple[Selection, int]]
"""Two films: which selection, and the place in it."""


def yardsticks(films: AuditFilms, judged: Judges) -> list[dict[str, Any]]:
    """What each score of two pictures says of two real films, so that thresholds come from the data.

    The pairs of two patients are of the gallery, each film with one of its class; those of one patient are of the
    gallery and of the victims, one pair per patient. A reconstruction is 'nearer than two patients' where it is nearer
    to its film than all but 1 % of the former pairs are; with fewer than 100 of them, than all.

    Returns:
        For each score {"metric", "larger_leaks_more", "one_patient", "two_patients", "threshold", "told_apart"}: of
        each kind the number of pairs and their 5 %, 50 % and 95 % quantiles, None where there is no pair; `told_apart`
        is the AUROC of telling one patient from two by this score.
    """
    one = _scores(_one_patient(films), judged)
    two = _scores(_two_patients(films.gallery), judged)
    return [_entry(name, larger, one.get((name, larger)), values) for (name, larger), values in two.items()]


def _entry(
    name: str, larger: bool, one: NDArray[np.float64] | None, two: NDArray[np.float64]
) -> dict[str, Any]:  # fmt: skip
    nearest_first = np.sort(two)[::-1] if larger else np.sort(two)
    return {
        "metric": name,
        "larger_leaks_more": larger,
        "one_patient": None if one is None else _spread(one),
        "two_patients": _spread(two),
        "threshold": float(nearest_first[int(FALSE_ALARMS * len(two))]),
        "told_apart": None if one is None else _told_apart(one, two, larger=larger),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    return {"pairs": len(values), "quantiles": [float(value) for value in np.quantile(values, _QUANTILES)]}


def _told_apart(one: NDArray[np.float64], two: NDArray[np.float64], *, larger: bool) -> float:
    """How often a pair of one patient is nearer than one of two; ties count half."""
    gaps = one[:, None] - two if larger else two - one[:, None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def _two_patients(gallery: Selection) -> list[Pair]:
    """Each film with the next of its class, one film per patient, in a drawn order."""
    order = numpy_stream(0, "yardsticks").permutation(len(gallery.records))
    first: dict[tuple[int, str], int] = {}
    for place in order.tolist():
        record = gallery.records[place]
        first.setdefault((record.label, record.patient), place)
    classes = defaultdict(list)
    for (label, _), place in first.items():
        classes[label].append(place)
    pairs = [
        pair
        for places in classes.values()
        if len(places) > 1
        for pair in zip(places, [*places[1:], places[0]], strict=True)
    ]
    return [((gallery, left), (gallery, right)) for left, right in evenly_spaced(pairs, PAIRS)]


def _one_patient(films: AuditFilms) -> list[Pair]:
    """Each victim with another film of the patient, and the first two films of each of the gallery's patients."""
    found: list[Pair] = []
    for batch, victims in enumerate(films.victims):
        places, others = films.other_films(batch)
        found += [((victims, place), (others, other)) for other, place in enumerate(places)]
    found += [((films.gallery, left), (films.gallery, right)) for left, right in _first_two(films.gallery.records)]
    return found[:PAIRS]


def _first_two(records: Iterable[Record]) -> list[tuple[int, int]]:
    """The places of the first two films of each patient, of one class where there are such."""
    places = defaultdict(list)
    for place, record in enumerate(records):
        places[record.patient].append((record.label, place))
    chosen = []
    for owned in places.values():
        same = [[place for label, place in owned if label == first] for first, _ in owned]
        pair = next((group for group in same if len(group) > 1), [place for _, place in owned])
        chosen += [(pair[0], pair[1])] if len(pair) > 1 else []
    return chosen


def _scores(pairs: list[Pair], judged: Judges) -> dict[tuple[str, bool], NDArray[np.float64]]:
    """By name and direction, each score of the first film of each pair as a reconstruction of the second."""
    found = defaultdict(list)
    for start in range(0, len(pairs), _BLOCK):
        block = pairs[start : start + _BLOCK]
        first, second = (_read([pair[side] for pair in block]) for side in (0, 1))
        labels = torch.tensor([selection.records[place].label for _, (selection, place) in block])
        for metric in judged.pairwise:
            for score in metric(first, second, labels, judged.context):
                found[score.name, score.larger_leaks_more].append(score.values.double().numpy())
    return {key: np.concatenate(values) for key, values in found.items()}


def _read(films: list[tuple[Selection, int]]) -> torch.Tensor:
    images = [selection.dataset.read([selection.records[place].index])[0] for selection, place in films]
    return torch.from_numpy(np.stack(images))
