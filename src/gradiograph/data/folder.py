"""Images in a folder, by class folder or by a CSV index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.records import Dataset
from gradiograph.core.registry import register
from gradiograph.data.class_folders import list_class_folders
from gradiograph.data.index import Columns, list_index
from gradiograph.data.pictures import Pictures, picture_dataset


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
    pictures = Pictures(
        image_size=image_size,
        channels=channels,
        bits=bits,
        upsample=upsample,
        fractions=fractions,
        split_seed=split_seed,
    )
    return picture_dataset("folder", listing, pictures, "class folders" if index is None else "a CSV index")


def _check_settings(index: Path | None, columns: Columns, patient_pattern: str | None) -> None:
    if index is not None and patient_pattern is not None:
        msg = "`patient_pattern` and `index` are both set, but the index says who the patient is. Leave one out."
        raise BadSetting(msg)
    if index is None and columns != Columns(mask=None):
        msg = "The settings ..._column are of an index, but `index` is not set. Set it."
        raise BadSetting(msg)
