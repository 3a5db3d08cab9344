"""The layout of the Medical Segmentation Decathlon: imagesTr, labelsTr, dataset.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from gradiograph.core.errors import DataProblem
from gradiograph.core.records import Dataset
from gradiograph.core.registry import register
from gradiograph.data.cuts import Plane
from gradiograph.data.datalists import list_items, read_json
from gradiograph.data.nifti_cases import open_cases
from gradiograph.data.volume_cuts import At, Size, Spacing, VolumeLabel, VolumeUnit, make_cut
from gradiograph.data.volume_reader import VolumePlan
from gradiograph.data.volume_records import volume_dataset
from gradiograph.data.volumes import Preparation
from gradiograph.data.windows import LevelAndWidth, Preset, level_and_width

if TYPE_CHECKING:
    from collections.abc import Mapping


@register("data", "decathlon", paper="Antonelli et al. 2022, arXiv 2106.05735")
def decathlon(
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
    label: VolumeLabel = "source",
    patient_pattern: str = "(.*)",
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split_seed: int = 0,
    upsample: bool = False,
    verify: bool = True,
) -> Dataset:
    """Volumes and masks in the layout of the Medical Segmentation Decathlon: imagesTr, labelsTr, dataset.json.

    The items under `training`; those under `test` have no masks and are left out. A fourth dimension is channels (MR
    sequences). How records are cut, turned and shown is as in `nifti`.

    Args:
        path: The folder of a task, with dataset.json in it.
        unit: See `nifti`; so are the settings that are not told here.
        image_size: Pixels of a side of a slice.
        size: Voxels (D, H, W) of a patch or volume.
        plane: Which slices.
        every: Every how-manieth slice.
        at: Or only the slices at these shares of the way from the first to the last, such as [0.4, 0.5, 0.6].
        spacing: Millimetres along x, y, z to resample to.
        window: A CT preset or [level, width]; none: the 0.5th to 99.5th percentile of each channel of each volume.
        channels: 3 repeats a single channel.
        label: "source": one class, "all"; "mask": the structure with most of the record's mask; "position":
            which of the places in `at` it is.
        patient_pattern: Searched in the file name without its suffix; its one group is the patient. The default takes
            each volume for a patient of its own, which holds for the Decathlon's own tasks.
        fractions: Shares of train, val and test, by patient.
        split_seed: Seed of that split.
        upsample: Allow slices smaller than `image_size` where they are resized.
        verify: Read every volume once now, so that damaged ones are refused and the others go on.

    Returns:
        Records with masks; the structures are those of dataset.json.

    Raises:
        BadSetting: settings that contradict each other.
        DataProblem: a folder or a dataset.json that cannot be used, or no file that can.
    """
    cut = make_cut(
        unit, image_size=image_size, size=size, plane=plane, every=every, upsample=upsample, spacing=spacing, at=at
    )
    path = path.expanduser()
    content = read_json(path / "dataset.json")
    entries = list_items(content, path, ("training",), patient_key="patient", site_key="site", pattern=patient_pattern)
    structures = _structures(content)
    cases, refused = open_cases(entries, None if window is None else level_and_width(window), other_grid=False)
    plan = VolumePlan(
        preparation=Preparation(spacing),
        cut=cut,
        unit=unit,
        channels=channels,
        structures=structures,
        label=label,
        verify=verify,
        fractions=fractions,
        split_seed=split_seed,
    )
    taken = " Each volume is taken for a patient of its own." if patient_pattern == "(.*)" else ""
    card = f"Volumes with masks in the layout of the Medical Segmentation Decathlon.{taken}"
    return volume_dataset("decathlon", cases, len(entries), plan, refused=refused, card=card)


def _structures(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the values 1, 2, ...: `labels` maps a value to a name, or (nnU-Net) a name to a value."""
    labels = content.get("labels")
    msg = 'dataset.json needs labels such as {"0": "background", "1": "anterior"}, numbered from 0 without a gap.'
    if not isinstance(labels, dict) or not labels:
        raise DataProblem(msg)
    turned = all(isinstance(value, int) for value in labels.values())
    pairs = {str(value): name for name, value in labels.items()} if turned else labels
    names = [str(pairs.get(str(value), "")) for value in range(len(pairs))]
    if not all(names) or len(set(names)) < len(names):
        raise DataProblem(msg)
    return tuple(names[1:])
