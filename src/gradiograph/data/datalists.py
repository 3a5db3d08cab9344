"""Data lists in JSON, as MONAI and the Medical Segmentation Decathlon have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradiograph.core.errors import DataProblem
from gradiograph.data.listing import Entry
from gradiograph.data.nifti_files import SUFFIXES, stem
from gradiograph.data.patients import patients_from_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradiograph.core.records import Split

LISTS: dict[str, Split] = {"training": "train", "validation": "val", "test": "test"}
"""The keys of a data list, and the split that each means."""
MAX_BYTES = 2**26


class _Item(NamedTuple):
    place: str
    label: str | int | None
    patient: str | None
    site: str
    split: Split


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object, or a list, which counts as `training`.

    Raises:
        DataProblem: it cannot be read, or holds something else.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            msg = f"The data list is larger than {MAX_BYTES // 2**20} MiB. Split it."
            raise DataProblem(msg)
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError:
        msg = "The data list (for `decathlon` dataset.json in `path`) does not exist or cannot be opened. Check `path`."
        raise DataProblem(msg) from None
    except (ValueError, RecursionError):
        msg = "The data list is no JSON in UTF-8. Mend it."
        raise DataProblem(msg) from None
    if isinstance(content, list):
        return {"training": content}
    if not isinstance(content, dict):
        msg = f"The data list is a {type(content).__name__}; it must be an object with the key 'training', or a list."
        raise DataProblem(msg)
    return content


def list_items(
    content: Mapping[str, Any], base: Path, keys: Sequence[str], *, patient_key: str, site_key: str, pattern: str
) -> tuple[Entry, ...]:
    """The entries of a data list, sorted by file.

    Args:
        content: What `read_json` returned.
        base: What the files are relative to.
        keys: Which of `LISTS` to take.
        patient_key: The key of an item with the patient.
        site_key: The key of an item with the site.
        pattern: Where no item has that key: see `patients_from_names`.

    Returns:
        Entries with a class, or a mask where `label` is a NIfTI file; with splits where there is more than one list.

    Raises:
        DataProblem: an item without an image, with a file that does not exist or lies outside of `base`, or with a
            label of another kind; some items with a patient and others without; no item at all.
    """
    items = [_item(entry, key, patient_key, site_key) for key in keys for entry in _list(content, key)]
    if not items:
        msg = f"The data list has no items under {', '.join(map(repr, keys))}. List the images there."
        raise DataProblem(msg)
    items.sort(key=lambda item: item.place)
    named = [item for item in items if item.patient]
    if named and len(named) < len(items):
        msg = f"{len(items) - len(named)} of {len(items)} items of the data list have no '{patient_key}'. Add it."
        raise DataProblem(msg)
    names = [_bare(Path(item.place).name) for item in items]
    patients = [item.patient or "" for item in items] if named else patients_from_names(names, pattern)
    several = len({item.split for item in items}) > 1
    _require_files(items, base)
    return tuple(
        Entry(
            place=item.place,
            file=base / item.place,
            label="" if item.label is None or _is_volume(item.label) else str(item.label),
            patient=patient,
            split=item.split if several else None,
            site=item.site,
            mask=base / str(item.label) if _is_volume(item.label) else None,
        )
        for item, patient in zip(items, patients, strict=True)
    )


def _bare(name: str) -> str:
    return stem(name) if name.endswith(SUFFIXES) else name.rpartition(".")[0]


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    found = content.get(key, [])
    if not isinstance(found, list):
        msg = f"'{key}' of the data list is a {type(found).__name__}; it must be a list of items."
        raise DataProblem(msg)
    return found


def _item(entry: object, key: str, patient_key: str, site_key: str) -> _Item:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        msg = f"An item under '{key}' of the data list has no 'image' that is one file. Write {{\"image\": ..., ...}}."
        raise DataProblem(msg)
    label = entry.get("label")
    if not isinstance(label, (str, int, type(None))) or isinstance(label, bool):
        msg = f"An item under '{key}' of the data list has a 'label' that is neither a class nor a file. Give one."
        raise DataProblem(msg)
    patient, site = entry.get(patient_key), entry.get(site_key)
    return _Item(
        place=Path(entry["image"]).as_posix(),
        label=Path(label).as_posix() if _is_volume(label) else label,  # type: ignore[arg-type]
        patient=None if patient is None else str(patient),
        site="" if site is None else str(site),
        split=LISTS[key],
    )


def _is_volume(label: str | int | None) -> bool:
    return isinstance(label, str) and label.endswith(SUFFIXES)


def _require_files(items: Sequence[_Item], base: Path) -> None:
    for number, item in enumerate(items, 1):
        places = [Path(item.place), *([Path(str(item.label))] if _is_volume(item.label) else [])]
        if any(place.anchor or ".." in place.parts for place in places):
            msg = (
                f"Item {number} of {len(items)} of the data list (in sorted order) names a file outside of its folder. "
                "Files are relative to the list's folder, or to `base`."
            )
            raise DataProblem(msg)
        if number > 1 and item.place == items[number - 2].place:
            msg = f"Item {number} of {len(items)} of the data list (in sorted order) names the image of the one before."
            raise DataProblem(msg + " Take one of them out.")
