"""NIfTI volumes in a folder, by file name or by a CSV index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.records import Dataset
from gradiograph.core.registry import register
from gradiograph.data.cuts import Plane
from gradiograph.data.index import Columns, list_index
from gradiograph.data.listing import Entry
from gradiograph.data.nifti_cases import open_cases
from gradiograph.data.nifti_files import SUFFIXES, stem
from gradiograph.data.patients import patients_from_names
from gradiograph.data.volume_cuts import At, Size, Spacing, VolumeLabel, VolumeUnit, make_cut
from gradiograph.data.volume_reader import VolumePlan
from gradiograph.data.volume_records import volume_dataset
from gradiograph.data.volumes import Preparation
from gradiograph.data.windows import LevelAndWidth, Preset, level_and_width

SUBJECT = r"^(sub-[A-Za-z0-9]+)"
"""BIDS: the file name begins with the subject."""


@register("data", "nifti")
def nifti(
    *,
    path: Path,
    unit: VolumeUnit = "slice",
    image_size: Annotated[int, Field(ge=8)] | None = None,
    size: Size | None = None,
    plane: Plane = "axial",
    every: Annotated[int, Field(ge=1)] = 1,
    at: At = (),
    spacing: Spacing | None = None,
    window: Preset | LevelAndWidth | None = None,
    channels: Literal[1, 3] = 1,
    masks: Path | None = None,
    structures: list[str] | None = None,
    other_grid: Literal["refuse", "resample"] = "refuse",
    label: VolumeLabel = "source",
    index: Path | None = None,
    file_column: str = "file",
    label_column: str = "label",
    patient_column: str = "patient",
    split_column: str = "split",
    site_column: str = "site",
    mask_column: str = "mask",
    patient_pattern: str | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split_seed: int = 0,
    upsample: bool = False,
    verify: bool = True,
) -> Dataset:
    """NIfTI volumes (`.nii`, `.nii.gz`) as 2-D slices, 3-D patches or whole volumes, with masks where there are any.

    Axes are turned to RAS+. A fourth dimension is channels. Slices are shown as a reader sees them: anterior or
    superior up, the patient's right (in sagittal ones, anterior) on the left; patches and volumes are (C, D, H, W) from
    inferior up, posterior forwards, left to right. A volume of one slice is one slice.

    Args:
        path: The folder; without an index, every NIfTI file below it but those in `masks`.
        unit: What a record is. The unit of privacy is the patient, always.
        image_size: Pixels of a side of a slice. Without `spacing` the slice is cropped at the centre to its short edge
            and resized, and must have square pixels; with it, cut out or padded so that millimetres stay.
        size: Voxels (D, H, W) of a patch or volume: patches in a grid, the centre of a volume; zeros around it.
        plane: Which slices.
        every: Every how-manieth slice.
        at: Or only the slices at these shares of the way from the first to the last, such as [0.4, 0.5, 0.6].
        spacing: Millimetres along x, y, z to resample to (linear; masks: nearest voxel).
        window: A CT preset or [level, width] in the units of the voxels; none: the 0.5th to 99.5th percentile of each
            volume, for MR.
        channels: 3 repeats a single channel.
        masks: The folder of the masks, named as the images.
        structures: Names of the values 1, 2, ... of the masks; none: their numbers.
        other_grid: What happens to a mask that is not on its image's grid: the volume is refused, or the mask is
            resampled to the image (nearest voxel).
        label: "source": the index's label, one class where it has none; "mask": the structure with most of the
            record's mask; "position": which of the places in `at` it is.
        index: A CSV with a header line and a row for each volume; files and masks are relative to `path`.
        file_column: The column with the file.
        label_column: The column with the class, used when the index has it.
        patient_column: The column with the patient.
        split_column: The column with the split, used when the index has it.
        site_column: The column with the hospital or scanner, used when the index has it.
        mask_column: The column with the mask, used when the index has it.
        patient_pattern: Without an index: see `folder`; none is BIDS (`sub-01_...`).
        fractions: Shares of train, val and test, where the source has no split; by patient.
        split_seed: Seed of that split.
        upsample: Allow slices smaller than `image_size` where they are resized.
        verify: Read every volume once now, so that damaged ones are refused and the others go on.

    Returns:
        Records sorted by file, then by place in the volume. Files that cannot be used are in `refused`.

    Raises:
        BadSetting: settings that contradict each other.
        DataProblem: a folder or an index that cannot be used, or no file that can.
    """
    cut = make_cut(
        unit, image_size=image_size, size=size, plane=plane, every=every, upsample=upsample, spacing=spacing, at=at
    )
    columns = Columns(file_column, label_column, patient_column, split_column, site_column, mask_column)
    entries = list_volumes(path.expanduser(), index and index.expanduser(), columns, masks, patient_pattern)
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
    return volume_dataset("nifti", cases, len(entries), plan, refused=refused, card="NIfTI volumes.")


def list_volumes(
    path: Path, index: Path | None, columns: Columns, masks: Path | None, patient_pattern: str | None
) -> tuple[Entry, ...]:
    """The NIfTI files of a folder, or those that an index lists, sorted.

    Raises:
        BadSetting: settings of an index without one, or the other way round.
        DataProblem: the folder does not exist or holds none, or a name tells no patient.
    """
    if not path.is_dir():
        msg = "The folder given as `path` does not exist or is not a folder. Check the setting `path`."
        raise DataProblem(msg)
    if index is not None:
        if masks is not None or patient_pattern is not None:
            msg = "`masks` and `patient_pattern` do not go with `index`, whose columns say both. Leave them out."
            raise BadSetting(msg)
        return list_index(path, index, columns, needed=("file", "patient")).entries
    if columns != Columns():
        msg = "The settings ..._column are of an index, but `index` is not set. Set it."
        raise BadSetting(msg)
    folder = None if masks is None else masks.expanduser()
    found = sorted(
        (file.relative_to(path).as_posix(), file)
        for file in path.rglob("*")
        if file.name.endswith(SUFFIXES) and not _hidden(file.relative_to(path)) and folder not in file.parents
    )
    if not found:
        msg = f"There is no NIfTI file ({', '.join(SUFFIXES)}) below the folder given as `path`. Check it."
        raise DataProblem(msg)
    patients = patients_from_names([stem(file.name) for _, file in found], patient_pattern or SUBJECT)
    return tuple(
        Entry(place=place, file=file, label="", patient=patient, split=None, mask=folder and folder / place)
        for (place, file), patient in zip(found, patients, strict=True)
    )


def _hidden(place: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in place.parts)
