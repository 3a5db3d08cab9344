"""What a source lists before any pixel is read: one entry an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gradiograph.core.records import Split

SPLIT_NAMES: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The names that mark a split, in lower case, and the split that each means."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image of a source.

    Attributes:
        place: The file's path inside the source, with `/`: the key that images are sorted by.
        file: Where to open it.
        label: The name of its class.
        patient: The patient's identifier in the source.
        split: The split that the source puts it in, None where the source has none.
        site: The hospital or scanner that the source names, "" where it names none.
        mask: The file with its segmentation, where it has one.
    """

    place: str = field(repr=False)
    file: Path = field(repr=False)
    label: str
    patient: str = field(repr=False)
    split: Split | None
    site: str = field(default="", repr=False)
    mask: Path | None = field(default=None, repr=False)


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted by name, or by value where all are whole numbers.

    >>> class_names(["10", "9", "9"]), class_names(["b", "a"])
    (('9', '10'), ('a', 'b'))
    """
    names = set(labels)
    numeric = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numeric else (0, name)))


@dataclass(frozen=True)
class Listing:
    """The entries of a source, sorted by place, and what to say about them in the dataset's card."""

    entries: tuple[Entry, ...]
    remarks: tuple[str, ...] = ()
