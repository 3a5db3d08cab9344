"""The listing of images in class folders, with or without split folders above them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradiograph.core.errors import DataProblem
from gradiograph.data.images import SUFFIXES
from gradiograph.data.listing import SPLIT_NAMES, Entry, Listing
from gradiograph.data.patients import patients_from_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.core.records import Split

_LAYOUT = "Put every image in a class folder (PATH/CLASS/image.png), or give a CSV as `index`."


class _Contents(NamedTuple):
    folders: list[Path]
    images: list[Path]
    others: int


class _Found(NamedTuple):
    place: str
    file: Path
    label: str
    split: Split | None


def list_class_folders(path: Path, pattern: str | None = None) -> Listing:
    """The images under `path/CLASS/` or, as Kaggle's chest X-rays come, under `path/SPLIT/CLASS/`.

    Hidden files and folders, `__MACOSX`, and files that are no images are left out. A split folder is one of
    `SPLIT_NAMES`, in any case. Under split folders a patient is the pair of split and name: Kaggle's set uses
    `person123` in train and again in test for another person. Where the same name does mean the same person, use an
    index with your own split.

    Args:
        path: The folder.
        pattern: See `patients_from_names`.

    Raises:
        DataProblem: images that lie beside folders or deeper than class folders, an empty class folder, a file name
            that is not UTF-8, or one that names no patient.
        BadSetting: a pattern that cannot be used.
    """
    remarks: list[str] = []
    found = sorted(_find(path, remarks), key=lambda image: image.place)
    _refuse_unprintable([image.place for image in found])
    patients = patients_from_names([image.file.stem for image in found], pattern)
    if found[0].split is not None:
        remarks += _repeated_names(found, patients)
        patients = [f"{image.split}/{patient}" for image, patient in zip(found, patients, strict=True)]
    entries = tuple(
        Entry(place=image.place, file=image.file, label=image.label, patient=patient, split=image.split)
        for image, patient in zip(found, patients, strict=True)
    )
    return Listing(entries, tuple(remarks))


def _find(path: Path, remarks: list[str]) -> list[_Found]:
    where = "the folder given as `path`"
    top = _contents(path)
    splits = [folder for folder in top.folders if folder.name.lower() in SPLIT_NAMES]
    if not splits:
        return _images_by_class(path, path, where, None, remarks)
    _refuse_images(where, top.images)
    rest = [folder for folder in top.folders if folder not in splits]
    _refuse_classes_beside_splits(rest)
    if rest:
        # Kaggle's archive holds a second copy of itself one folder deeper.
        remarks.append(f"{len(rest)} folders beside the split folders were left out.")
    found: list[_Found] = []
    for folder in splits:
        split = SPLIT_NAMES[folder.name.lower()]
        found += _images_by_class(path, folder, f"the split folder '{split}'", split, remarks)
    return found


def _contents(folder: Path) -> _Contents:
    try:
        visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    except OSError:
        msg = "A folder under the one given as `path` cannot be opened. Check its permissions."
        raise DataProblem(msg) from None
    folders = [entry for entry in visible if entry.is_dir()]
    images = [entry for entry in visible if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
    return _Contents(folders, images, len(visible) - len(folders) - len(images))


def _images_by_class(path: Path, parent: Path, where: str, split: Split | None, remarks: list[str]) -> list[_Found]:
    top = _contents(parent)
    _refuse_images(where, top.images)
    if not top.folders:
        msg = f"There is neither an image nor a folder in {where}. {_LAYOUT}"
        raise DataProblem(msg)
    found: list[_Found] = []
    others = 0
    for position, folder in enumerate(top.folders, 1):
        inside = _contents(folder)
        which = f"Class folder {position} of {len(top.folders)} (in sorted order) of {where}"
        if inside.folders:
            msg = f"{which} holds {len(inside.folders)} folders. {_LAYOUT}"
            raise DataProblem(msg)
        if not inside.images:
            msg = (
                f"{which} holds no image ({', '.join(SUFFIXES)}; {inside.others} files of other types). "
                "Fill it or take it out."
            )
            raise DataProblem(msg)
        others += inside.others
        found += [_Found(file.relative_to(path).as_posix(), file, folder.name, split) for file in inside.images]
    if others:
        remarks.append(f"{others} files that are no images were left out of {where}.")
    return found


def _refuse_images(where: str, images: Sequence[Path]) -> None:
    if images:
        msg = f"{len(images)} images lie directly in {where}, outside of any class folder. {_LAYOUT}"
        raise DataProblem(msg)


def _refuse_classes_beside_splits(folders: Sequence[Path]) -> None:
    classes = sum(1 for folder in folders if _contents(folder).images)
    if classes:
        msg = (
            f"{classes} folders with images lie beside split folders ({', '.join(SPLIT_NAMES)}) in the folder given as "
            "`path`. Have either class folders, or split folders with class folders in them."
        )
        raise DataProblem(msg)


def _refuse_unprintable(places: Sequence[str]) -> None:
    bad = [position for position, place in enumerate(places, 1) if not place.isprintable()]
    if bad:
        msg = (
            f"{len(bad)} of {len(places)} files (the first is image {bad[0]} in sorted order) have a name that is not "
            "UTF-8 or holds control characters. Rename them."
        )
        raise DataProblem(msg)


def _repeated_names(found: Sequence[_Found], patients: Sequence[str]) -> list[str]:
    splits = defaultdict(set)
    for image, patient in zip(found, patients, strict=True):
        splits[patient].add(image.split)
    repeated = sum(1 for where in splits.values() if len(where) > 1)
    if not repeated:
        return []
    return [f"{repeated} patient names occur in more than one split folder and were taken as different people."]
