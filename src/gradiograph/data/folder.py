"""Images in a folder, by class folder or by a CSV index."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.records import Dataset, Record
from gradiograph.core.registry import register
from gradiograph.data.class_folders import list_class_folders
from gradiograph.data.images import check_images, read_image
from gradiograph.data.index import Columns, list_index
from gradiograph.data.listing import class_names
from gradiograph.data.splits import splits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradiograph.data.listing import Entry

CACHE_BYTES = 512 * 2**20


@register("data", "folder")
def folder(
    *,
    path: Path,
    image_size: Annotated[int, Field(ge=8)],
    channels: Literal[1, 3] = 1,
    index: Path | None = None,
    file_column: str = "file",
    label_column: str = "label",
    patient_column: str = "patient",
    split_column: str = "split",
    site_column: str = "site",
    patient_pattern: str | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split_seed: int = 0,
    upsample: bool = False,
    bits: Literal[8, 10, 12, 14, 16] | None = None,
) -> Dataset:
    """Images in class folders, in Kaggle's train/val/test layout, or listed in a CSV index.

    Grey and colour, 8 and 16 bit, PNG, JPEG, TIFF and BMP. Each image is cropped at the centre to its short edge and
    resized. Headers are checked at once, pixels are decoded when they are read and the last ones are kept in memory.

    Args:
        path: The folder. Without `index` it holds `CLASS/image` or `SPLIT/CLASS/image` with splits named train, val
            (valid, validation), test. There, a patient is the pair of split and name: Kaggle's chest X-rays use
            `person123` in train and in test for different people.
        image_size: Pixels of a side, at least 8.
        channels: 1: colours become luma. 3: grey is repeated.
        index: A CSV with a header line and a row for each image; its files are relative to `path`.
        file_column: The column of the index that names the file.
        label_column: The column of the index with the class.
        patient_column: The column of the index with the patient.
        split_column: The column of the index with the split; the default is used when the index has it.
        site_column: The column of the index with the hospital or scanner; the default is used when the index has it.
        patient_pattern: Without an index: a regular expression that is searched in the file name without its suffix
            and whose one group is the patient. None knows the names of the Kermany chest X-rays. '(.*)': each name
            is a patient.
        fractions: Shares of train, val and test, where the source itself has no split; see `split_by_patient`.
        split_seed: Seed of that split.
        upsample: Allow images smaller than `image_size`.
        bits: White is 2^bits - 1. None: 255 for 8-bit images, 65535 for 16-bit images, even where only 12 bits are
            in use.

    Returns:
        Records sorted by their path inside the folder; classes sorted by name (by value where all are whole numbers).

    Raises:
        BadSetting: settings that contradict each other, a bad pattern, bad fractions.
        DataProblem: a folder, an index or an image that cannot be used. Images are named by sorted position.
    """
    columns = Columns(file_column, label_column, patient_column, split_column, site_column, mask=None)
    _check_settings(index, columns, patient_pattern)
    path = path.expanduser()
    if not path.is_dir():
        msg = "The folder given as `path` does not exist or is not a folder. Check the setting `path`."
        raise DataProblem(msg)
    if index is None:
        listing = list_class_folders(path, patient_pattern)
    else:
        listing = list_index(path, index.expanduser(), columns)
    classes = _classes(listing.entries)
    files = [entry.file for entry in listing.entries]
    check_images(files, image_size, bits=bits, upsample=upsample)
    records = _records(listing.entries, classes, fractions, split_seed)
    source = "class folders" if index is None else "a CSV index"
    given = "given by the source" if listing.entries[0].split else f"by patient, fractions {list(fractions)}"
    card = (
        f"{len(records)} images of {len({record.patient for record in records})} patients from {source}, "
        f"{len(classes)} classes; split {given}; cropped at the centre, resized to {image_size} x {image_size}."
    )
    return Dataset(
        name="folder",
        classes=classes,
        records=records,
        image_shape=(channels, image_size, image_size),
        read=_reader(files, image_size, channels, bits),
        card=" ".join((card, *listing.remarks)),
    )


def _check_settings(index: Path | None, columns: Columns, patient_pattern: str | None) -> None:
    if index is not None and patient_pattern is not None:
        msg = "`patient_pattern` and `index` are both set, but the index says who the patient is. Leave one out."
        raise BadSetting(msg)
    if index is None and columns != Columns(mask=None):
        msg = "The settings ..._column are of an index, but `index` is not set. Set it."
        raise BadSetting(msg)


def _classes(entries: Sequence[Entry]) -> tuple[str, ...]:
    names = {entry.label for entry in entries}
    if len(names) < 2:
        msg = (
            f"The images are of {len(names)} class; at least 2 are needed. "
            "Have a folder for each class (PATH/CLASS/image.png), or a label for each row of the `index`."
        )
        raise DataProblem(msg)
    return class_names(names)


def _records(
    entries: Sequence[Entry], classes: tuple[str, ...], fractions: tuple[float, float, float], seed: int
) -> tuple[Record, ...]:
    labels = [classes.index(entry.label) for entry in entries]
    splits = splits_of(entries, labels, fractions, seed)
    return tuple(
        Record(index=number, label=label, patient=entry.patient, split=split, site=entry.site)
        for number, (entry, label, split) in enumerate(zip(entries, labels, splits, strict=True))
    )


def _reader(
    files: Sequence[Path], size: int, channels: int, bits: int | None
) -> Callable[[Sequence[int]], NDArray[np.float32]]:
    @lru_cache(maxsize=max(1, CACHE_BYTES // (4 * channels * size * size)))
    def one(number: int) -> NDArray[np.float32]:
        position = f"Image {number + 1} of {len(files)} (in sorted order)"
        return read_image(files[number], size, channels, bits=bits, position=position)

    def read(indices: Sequence[int]) -> NDArray[np.float32]:
        images = np.empty((len(indices), channels, size, size), np.float32)
        for row, number in enumerate(indices):
            images[row] = one(range(len(files))[number])
        return images

    return read
