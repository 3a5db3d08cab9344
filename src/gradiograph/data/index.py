"""The listing of images in a CSV index."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.data.images import SUFFIXES
from gradiograph.data.listing import SPLIT_NAMES, Entry, Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

Rows = list[dict[str, str]]
_SETTINGS = "file_column, label_column, patient_column, split_column, site_column, mask_column"


class Columns(NamedTuple):
    """The names of an index's columns.

    A column that the source does not need may be missing in the index as long as it has its default name. `mask` is
    None for a source that has no use for masks.
    """

    file: str = "file"
    label: str = "label"
    patient: str = "patient"
    split: str = "split"
    site: str = "site"
    mask: str | None = "mask"


NEEDED = ("file", "label", "patient")


def list_index(path: Path, index: Path, columns: Columns | None = None, needed: Sequence[str] = NEEDED) -> Listing:
    """The images that a CSV with a header line lists.

    Args:
        path: The folder that the file column is relative to. A symbolic link in it may lead out of it; `..` may not.
        index: The CSV, UTF-8, separated by commas.
        columns: The names of its columns.
        needed: Which of them the source cannot do without. Where another is missing, an entry's label, patient or site
            is "", its split or mask None. An empty cell of the mask's column means no mask.

    Raises:
        BadSetting: one column is given for two purposes.
        DataProblem: the index cannot be read, lacks a column, has an empty cell, an unknown split, a file that is not
            there or is listed twice or lies outside of `path`, or a patient in two splits. Rows are counted without
            the header line.
    """
    columns = columns or Columns()
    if len(set(columns)) < len(columns):
        msg = f"Two of {_SETTINGS} are the same; each needs its own column."
        raise BadSetting(msg)
    header, rows = _read(index)
    _check_header(header, path, columns, needed)
    for column in (name for name in columns if name in header and name != columns.mask):
        empty = [number for number, row in enumerate(rows, 1) if not row[column]]
        _refuse(empty, rows, f"has an empty cell in column '{column}'", "Fill it, or take the row out")
    _check_files(rows, path, columns.file)
    if columns.mask and columns.mask in header:
        _check_files([row for row in rows if row[columns.mask]], path, columns.mask)
    if columns.split in header:
        _check_splits(rows, columns)
    entries = (_entry(path, row, columns) for row in rows)
    return Listing(tuple(sorted(entries, key=lambda entry: entry.place)))


def _entry(path: Path, row: dict[str, str], columns: Columns) -> Entry:
    split, mask = row.get(columns.split), row.get(columns.mask or "")
    return Entry(
        place=Path(row[columns.file]).as_posix(),
        file=path / row[columns.file],
        label=row.get(columns.label, ""),
        patient=row.get(columns.patient, ""),
        split=SPLIT_NAMES[split.lower()] if split else None,
        site=row.get(columns.site, ""),
        mask=path / mask if mask else None,
    )


def _read(index: Path) -> tuple[list[str], Rows]:
    try:
        with index.open(encoding="utf-8-sig", newline="") as stream:
            lines = [[cell.strip() for cell in line] for line in csv.reader(stream, strict=True) if line]
    except OSError:
        msg = "The CSV given as `index` does not exist, or is not a file that can be opened. Check the setting `index`."
        raise DataProblem(msg) from None
    except (UnicodeDecodeError, csv.Error):
        msg = "The file given as `index` is not a CSV in UTF-8. Save it as comma-separated text in UTF-8."
        raise DataProblem(msg) from None
    if len(lines) < 2:
        msg = f"The CSV given as `index` has {len(lines)} lines; it needs a header line and a row for each image."
        raise DataProblem(msg)
    header, body = lines[0], lines[1:]
    wrong = [number for number, line in enumerate(body, 1) if len(line) != len(header)]
    _refuse(wrong, body, f"does not have {len(header)} cells as the header line has", "Quote cells that hold a comma")
    return header, [dict(zip(header, line, strict=True)) for line in body]


def _check_header(header: list[str], path: Path, columns: Columns, roles: Sequence[str]) -> None:
    default = Columns()._asdict()
    needed = [name for role, name in columns._asdict().items() if role in roles or name not in (None, default[role])]
    missing = [column for column in needed if column not in header]
    if missing:
        lacks = f"The CSV given as `index` has no column {', '.join(map(repr, missing))}"
        if any(_is_data(cell, path) for cell in header):
            msg = f"{lacks}: its first line is data, not a header. Add one, such as {','.join(needed)}."
        else:
            msg = f"{lacks}. Its columns: {', '.join(header)}. Set {_SETTINGS} to the names in it."
        raise DataProblem(msg)
    twice = [column for column in columns if column and header.count(column) > 1]
    if twice:
        msg = (
            f"The CSV given as `index` has the column '{twice[0]}' {header.count(twice[0])} times. Rename all but one."
        )
        raise DataProblem(msg)


def _is_data(cell: str, path: Path) -> bool:
    """Whether a cell is no column's name: without a header, the first line is a patient's and must not be shown."""
    is_file = os.path.splitext(cell)[1].lower() in (*SUFFIXES, ".dcm", ".nii", ".gz") or os.path.isfile(path / cell)
    return is_file or cell.isdecimal() or "/" in cell


def _check_files(rows: Rows, path: Path, column: str) -> None:
    places = [Path(row[column]) for row in rows]
    outside = [number for number, place in enumerate(places, 1) if place.anchor or ".." in place.parts]
    advice = "File paths are relative to `path`"
    _refuse(outside, rows, "names a file outside of the folder given as `path`", advice)
    # os.path.isfile answers False for any text that cannot be a path, where Path.is_file may raise.
    absent = [number for number, place in enumerate(places, 1) if not os.path.isfile(path / place)]
    _refuse(absent, rows, "names a file that does not exist", advice)
    first = dict(reversed([(place, number) for number, place in enumerate(places, 1)]))
    repeated = [number for number, place in enumerate(places, 1) if first[place] != number]
    _refuse(repeated, rows, "names a file that an earlier row names too", "Take one of them out")


def _check_splits(rows: Rows, columns: Columns) -> None:
    unknown = [number for number, row in enumerate(rows, 1) if row[columns.split].lower() not in SPLIT_NAMES]
    _refuse(unknown, rows, f"has no known split in column '{columns.split}'", f"Valid: {', '.join(SPLIT_NAMES)}")
    if columns.patient not in rows[0]:
        return  # The source itself says who the patient is, and checks it.
    splits = defaultdict(set)
    for row in rows:
        splits[row[columns.patient]].add(SPLIT_NAMES[row[columns.split].lower()])
    shared = sum(1 for where in splits.values() if len(where) > 1)
    if shared:
        msg = (
            f"{shared} of {len(splits)} patients are in more than one split of column '{columns.split}', which would "
            "leak between splits. Split by patient, or take the column out to have Gradiograph split by `fractions`."
        )
        raise DataProblem(msg)


def _refuse(numbers: list[int], rows: list[list[str]] | Rows, what: str, advice: str) -> None:
    if numbers:
        msg = (
            f"Row {numbers[0]} of {len(rows)} of the CSV given as `index` {what} "
            f"(rows like this: {len(numbers)}). {advice}."
        )
        raise DataProblem(msg)
