"""Records of images and of results. Runs without torch."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
Unit = Literal["image", "slice", "patch", "volume", "study"]


PATIENT = "patient_"
"""How the names of the scores begin that ask for another film of the patient."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image, slice, patch, volume or study: its label, its patient and the split its patient is in.

    `patient` is the identifier in the source. It stays in memory: what is written carries `pseudonym(key, patient)`.
    `site` is where the source says it comes from (a hospital, a scanner), "" where it does not; it stays in memory too.
    """

    index: int
    label: int
    patient: str = field(repr=False)
    split: Split
    client: int = 0
    site: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Records and the way to read their pixels.

    What a record is and whose privacy counts are two things: a patient may have many records, and no patient is in two
    splits or at two clients.

    Attributes:
        name: The component that made it.
        classes: The class names; a record's label is an index into them.
        records: All records, in the order of the source's sorted listing; `records[i].index == i`.
        image_shape: (channels, height, width), or (channels, depth, height, width) for volumes and patches.
        read: Indices of n records -> float32 array (n, *image_shape) in [0, 1].
        card: Provenance in words, without any path.
        unit: What one record is.
        privacy_unit: "image" only for a source that does not say whose image it is, which its card states.
        read_masks: Indices of n records -> int64 array (n, *image_shape[1:]) of indices into `mask_classes`; None where
            the source has no masks.
        mask_classes: The structures in the masks; the first is the background.
        refused: A line for each file of the source that could not be used, without its name; the others are records.
    """

    name: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    image_shape: tuple[int, ...]
    read: Callable[[Sequence[int]], NDArray[np.float32]] = field(repr=False)
    card: str = ""
    unit: Unit = "image"
    privacy_unit: Literal["patient", "image"] = "patient"
    read_masks: Callable[[Sequence[int]], NDArray[np.int64]] | None = field(default=None, repr=False)
    mask_classes: tuple[str, ...] = ()
    refused: tuple[str, ...] = field(default=(), repr=False)

    def select(self, *, split: str | None = None, label: int | None = None) -> tuple[Record, ...]:
        """The records of a split and a label, in order; None means all."""
        return tuple(
            r for r in self.records if (split is None or r.split == split) and (label is None or r.label == label)
        )


def pseudonym(key: bytes, patient: str, index: int | None = None) -> str:
    """A keyed pseudonym of a patient, or of one film of the patient: 12 hexadecimal digits of HMAC-SHA-256.

    >>> pseudonym(b"key", "IM-0115") == pseudonym(b"key", "IM-0115"), len(pseudonym(b"key", "IM-0115"))
    (True, 12)
    """
    message = patient if index is None else f"{patient}\0{index}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One value of one metric for one record: a line of `rows.csv`.

    Attributes:
        control: "none" for the attack itself; else "mismatched_update", "stock_film" or "mean_film".
        attack: The attack's label; "" for the controls that need no attack (and `defence` is "" there).
        batch: Index of the victim batch.
        record: Keyed pseudonym of the film.
        value: The metric's value, NaN never.
        larger_leaks_more: Direction of the metric.
        round: The round of the training whose update was attacked, from 1; 1 for controls that need no update.
    """

    task: str
    protocol: str
    defence: str
    attack: str
    control: str
    batch: int
    seed: int
    record: str
    metric: str
    value: float
    larger_leaks_more: bool
    round: int = 1
