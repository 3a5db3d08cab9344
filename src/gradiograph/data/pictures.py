"""PNG, JPEG, TIFF and BMP files of a listing as records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradiograph.core.errors import DataProblem
from gradiograph.core.records import Dataset, Record
from gradiograph.data.images import check_images, read_image
from gradiograph.data.listing import class_names
from gradiograph.data.splits import splits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gradiograph.data.listing import Entry, Listing

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How pictures become records; see the settings of `folder`."""

    image_size: int
    channels: Literal[1, 3]
    bits: Literal[8, 10, 12, 14, 16] | None
    upsample: bool
    fractions: tuple[float, float, float]
    split_seed: int


def picture_dataset(name: str, listing: Listing, pictures: Pictures, source: str) -> Dataset:
    """A dataset of the pictures of a listing; headers are checked at once, pixels are decoded when they are read.

    Raises:
        BadSetting: bad fractions.
        DataProblem: fewer than two classes, a picture that cannot be used, or splits that cannot be made.
    """
    size, channels = pictures.image_size, pictures.channels
    classes = _classes(listing.entries)
    files = [entry.file for entry in listing.entries]
    check_images(files, size, bits=pictures.bits, upsample=pictures.upsample)
    records = _records(listing.entries, classes, pictures)
    fractions = list(pictures.fractions)
    given = "given by the source" if listing.entries[0].split else f"by patient, fractions {fractions}"
    card = (
        f"{len(records)} images of {len({record.patient for record in records})} patients from {source}, "
        f"{len(classes)} classes; a record is one image, the unit of privacy the patient; split {given}; cropped at "
        f"the centre, resized to {size} x {size}."
    )
    return Dataset(
        name=name,
        classes=classes,
        records=records,
        image_shape=(channels, size, size),
        read=_reader(files, pictures),
        card=" ".join((card, *listing.remarks)),
    )


def _classes(entries: Sequence[Entry]) -> tuple[str, ...]:
    names = {entry.label for entry in entries}
    if len(names) < 2:
        msg = (
            f"The images are of {len(names)} class; at least 2 are needed. "
            "Have a folder for each class (PATH/CLASS/image.png), or a label for each row of the `index`."
        )
        raise DataProblem(msg)
    return class_names(names)


def _records(entries: Sequence[Entry], classes: tuple[str, ...], pictures: Pictures) -> tuple[Record, ...]:
    labels = [classes.index(entry.label) for entry in entries]
    splits = splits_of(entries, labels, pictures.fractions, pictures.split_seed)
    return tuple(
        Record(index=number, label=label, patient=entry.patient, split=split, site=entry.site)
        for number, (entry, label, split) in enumerate(zip(entries, labels, splits, strict=True))
    )


def _reader(files: Sequence[Path], pictures: Pictures) -> Callable[[Sequence[int]], NDArray[np.float32]]:
    size, channels = pictures.image_size, pictures.channels

    @lru_cache(maxsize=max(1, CACHE_BYTES // (4 * channels * size * size)))
    def one(number: int) -> NDArray[np.float32]:
        position = f"Image {number + 1} of {len(files)} (in sorted order)"
        return read_image(files[number], size, channels, bits=pictures.bits, position=position)

    def read(indices: Sequence[int]) -> NDArray[np.float32]:
        images = np.empty((len(indices), channels, size, size), np.float32)
        for row, number in enumerate(indices):
            images[row] = one(range(len(files))[number])
        return images

    return read
