"""Data lists of MONAI: JSON that names images with their classes or masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gradiograph.core.errors import BadSetting
from gradiograph.core.records import Dataset
from gradiograph.core.registry import register
from gradiograph.data.cuts import Plane
from gradiograph.data.datalists import LISTS, list_items, read_json
from gradiograph.data.images import SUFFIXES
from gradiograph.data.listing import Listing
from gradiograph.data.nifti import SUBJECT
from gradiograph.data.nifti_cases import open_cases
from gradiograph.data.pictures import Pictures, picture_dataset
from gradiograph.data.volume_cuts import At, Size, Spacing, VolumeLabel, VolumeUnit, make_cut
from gradiograph.data.volume_reader import VolumePlan
from gradiograph.data.volume_records import volume_dataset
from gradiograph.data.volumes import Preparation
from gradiograph.data.windows import LevelAndWidth, Preset, level_and_width


@register("data", "monai")
def monai(
    *,
    path: Path,
    base: Path | None = None,
    lists: list[Literal["training", "validation", "test"]] | None = None,
    unit: VolumeUnit | Literal["image"] = "slice",
    image_size: Annotated[int, Field(ge=8)] | None = None,
    size: Size | None = None,
    plane: Plane = "axial",
    every: Annotated[int, Field(ge=1)] = 1,
    at: At = (),
    spacing: Spacing | None = None,
    window: Preset | LevelAndWidth | None = None,
    channels: Literal[1, 3] = 1,
    structures: list[str] | None = None,
    other_grid: Literal["refuse", "resample"] = "refuse",
    label: VolumeLabel = "source",
    patient_key: str = "patient",
    site_key: str = "site",
    patient_pattern: str | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split_seed: int = 0,
    upsample: bool = False,
    verify: bool = True,
) -> Dataset:
    """A data list of MONAI: `training`, `validation` and `test`, each a list of `{"image": ..., "label": ...}`.

    Images are NIfTI volumes, or with unit = "image" pictures (PNG, JPEG, TIFF, BMP). A `label` is a class, or for
    volumes a mask in NIfTI. Where more than one of the lists is taken, they are the splits; else it is split by
    patient. How volumes are cut, turned and shown is as in `nifti`.

    Args:
        path: The JSON file; a list at its top counts as `training`.
        base: What its files are relative to; none: its folder.
        lists: Which lists to take; none: all three.
        unit: What a record is; see `nifti`, and "image". So are the settings that are not told here.
        image_size: Pixels of a side of a slice or picture.
        size: Voxels (D, H, W) of a patch or volume.
        plane: Which slices.
        every: Every how-manieth slice.
        at: Or only the slices at these shares of the way from the first to the last, such as [0.4, 0.5, 0.6].
        spacing: Millimetres along x, y, z to resample to.
        window: A CT preset or [level, width]; none: the 0.5th to 99.5th percentile of each volume.
        channels: 3 repeats a single channel.
        structures: Names of the values 1, 2, ... of the masks; none: their numbers.
        other_grid: What happens to a mask that is not on its image's grid.
        label: "source": the list's class, one class where it has none; "mask": the structure with most of the record's
            mask; "position": which of the places in `at` it is.
        patient_key: The key of an item with the patient.
        site_key: The key of an item with the hospital or scanner.
        patient_pattern: Where no item has that key: see `folder`; none is BIDS (`sub-01_...`).
        fractions: Shares of train, val and test, where one list is taken; by patient.
        split_seed: Seed of that split.
        upsample: Allow images smaller than `image_size` where they are resized.
        verify: Read every volume once now, so that damaged ones are refused and the others go on.

    Returns:
        Records sorted by file, then by place in the volume.

    Raises:
        BadSetting: settings that contradict each other.
        DataProblem: a list that cannot be used, a patient in two of its splits, or no file that can be used.
    """
    path = path.expanduser()
    content = read_json(path)
    entries = list_items(
        content,
        (base or path.parent).expanduser(),
        tuple(lists or LISTS),
        patient_key=patient_key,
        site_key=site_key,
        pattern=patient_pattern or SUBJECT,
    )
    if unit == "image":
        if image_size is None or not all(entry.place.lower().endswith(SUFFIXES) for entry in entries):
            msg = f"unit = 'image' takes image_size and pictures ({', '.join(SUFFIXES)}). Set another unit for volumes."
            raise BadSetting(msg)
        pictures = Pictures(
            image_size=image_size,
            channels=channels,
            bits=None,
            upsample=upsample,
            fractions=fractions,
            split_seed=split_seed,
        )
        return picture_dataset("monai", Listing(entries), pictures, "a data list of MONAI")
    cut = make_cut(
        unit, image_size=image_size, size=size, plane=plane, every=every, upsample=upsample, spacing=spacing, at=at
    )
    shown = None if window is None else level_and_width(window)
    cases, refused = open_cases(entries, shown, other_grid=other_grid == "resample")
    plan = VolumePlan(
        preparation=Preparation(spacing),
        cut=cut,
        unit=unit,
        channels=channels,
        structures=tuple(structures or ()),
        label=label,
        verify=verify,
        fractions=fractions,
        split_seed=split_seed,
    )
    return volume_dataset("monai", cases, len(entries), plan, refused=refused, card="A data list of MONAI.")
