"""Train, validation and test, by patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import isclose, isfinite
from typing import TYPE_CHECKING

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import derive_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.core.records import Split
    from gradiograph.data.listing import Entry

SPLITS: tuple[Split, Split, Split] = ("train", "val", "test")


def split_by_patient(
    patients: Sequence[str], labels: Sequence[int], fractions: tuple[float, float, float], seed: int
) -> tuple[Split, ...]:
    """A split for each image such that no patient is in two.

    Patients are taken label by label (a patient's label is its most frequent one, the smallest where tied), within a
    label in an order that depends on the seed and the patient alone, and each goes to the split that is furthest below
    its fraction of the images so far. So every label, and the whole, is near the fractions, off by about one patient.
    The order of the images does not matter.

    Args:
        patients: One a image.
        labels: One a image.
        fractions: Shares of the images of train, val and test, in [0, 1], that sum to 1. A split of share 0 is empty;
            every other one gets at least one patient.
        seed: Changes who is where.

    Raises:
        BadSetting: the fractions are not shares that sum to 1.
        DataProblem: there are fewer patients than splits with a positive share.

    >>> split_by_patient(["a", "b", "a"], [0, 1, 0], (0.5, 0.0, 0.5), 0)
    ('train', 'test', 'train')
    """
    wanted = _shares(fractions)
    ordered = order_by_label(patients, labels, "split", seed)
    if len(ordered) < len(wanted):
        msg = (
            f"{len(ordered)} patients cannot fill {len(wanted)} splits ({', '.join(wanted)}). "
            "Add patients, or set the fraction of a split that you do not need to 0."
        )
        raise DataProblem(msg)
    images = Counter(patients)
    filled = dict.fromkeys(wanted, 0)
    chosen: dict[str, Split] = {}
    seen = 0
    for patient in ordered:
        seen += images[patient]
        split = max(wanted, key=lambda name: wanted[name] * seen - filled[name])
        filled[split] += images[patient]
        chosen[patient] = split
    _fill_empty(chosen, wanted)
    return tuple(chosen[patient] for patient in patients)


def splits_of(
    entries: Sequence[Entry], labels: Sequence[int], fractions: tuple[float, float, float], seed: int
) -> tuple[Split, ...]:
    """The splits that the source gives, or a split by patient where it gives none to some entry.

    Args:
        entries: The source's listing.
        labels: One an entry.
        fractions: See `split_by_patient`.
        seed: See `split_by_patient`.

    Raises:
        BadSetting: see `split_by_patient`.
        DataProblem: see `split_by_patient`; or the source has a patient in two splits.
    """
    given = [entry.split for entry in entries if entry.split is not None]
    patients = [entry.patient for entry in entries]
    if len(given) < len(entries):
        return split_by_patient(patients, labels, fractions, seed)
    where = defaultdict(set)
    for patient, split in zip(patients, given, strict=True):
        where[patient].add(split)
    shared = sum(len(splits) > 1 for splits in where.values())
    if shared:
        msg = (
            f"{shared} of {len(where)} patients are in more than one split of the source, which would leak between "
            "splits. Give a source that is split by patient, or one without splits."
        )
        raise DataProblem(msg)
    return tuple(given)


def order_by_label(patients: Sequence[str], labels: Sequence[int], purpose: str, seed: int) -> dict[str, int]:
    """Each patient once with its most frequent label: by label, then shuffled by the seed and the patient alone.

    >>> order_by_label(["a", "b", "a", "a"], [1, 0, 0, 1], "example", 0)
    {'b': 0, 'a': 1}
    """
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for patient, label in zip(patients, labels, strict=True):
        votes[patient][label] += 1
    label_of = {patient: min(count, key=lambda label: (-count[label], label)) for patient, count in votes.items()}
    # The patient itself breaks the (unlikely) tie of two derived seeds.
    ordered = sorted(label_of, key=lambda patient: (label_of[patient], derive_seed(seed, purpose, patient), patient))
    return {patient: label_of[patient] for patient in ordered}


def _shares(fractions: tuple[float, float, float]) -> dict[Split, float]:
    valid = all(isfinite(share) and share >= 0 for share in fractions) and isclose(sum(fractions), 1, abs_tol=1e-6)
    if not valid or len(fractions) != len(SPLITS):
        msg = (
            f"fractions = {list(fractions)} is refused: give {len(SPLITS)} shares ({', '.join(SPLITS)}), each at least "
            "0, that sum to 1, such as [0.7, 0.1, 0.2]."
        )
        raise BadSetting(msg)
    return {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}


def _fill_empty(chosen: dict[str, Split], wanted: dict[Split, float]) -> None:
    """Move patients out of the split with the most of them into those with none, in place."""
    for split in wanted:
        counts = Counter(chosen.values())
        if not counts[split]:
            most = max(wanted, key=lambda name: counts[name])
            chosen[next(patient for patient in reversed(chosen) if chosen[patient] == most)] = split
