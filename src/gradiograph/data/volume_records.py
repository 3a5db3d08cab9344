"""Records out of the volumes of a source, with their masks, labels and splits."""

from __future__ import annotations

from statistics import mode
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.errors import BadSetting
from gradiograph.core.records import Dataset, Record
from gradiograph.data.listing import class_names
from gradiograph.data.refusals import Refused, refusal, require_some
from gradiograph.data.splits import splits_of
from gradiograph.data.volume_reader import Case, Examined, VolumePlan, VolumeReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.data.volumes import Volume


def volume_dataset(
    name: str, cases: Sequence[Case], total: int, plan: VolumePlan, *, refused: Sequence[str] = (), card: str = ""
) -> Dataset:
    """A dataset of the records of some volumes. All have masks, or none.

    Args:
        name: The component's.
        cases: In the order of the listing.
        total: How many the source lists, refused ones among them.
        plan: How records are made.
        refused: The lines about what the source refused before.
        card: What the source says of itself.

    Raises:
        BadSetting: settings that need masks where there are none, or structures that are not named.
        DataProblem: no volume is left, or splits cannot be made.
    """
    masked = any(case.volume.load_mask for case in cases)
    if plan.label == "mask" and not masked:
        msg = "label = 'mask' needs masks, but the source has none. Give masks, or leave `label` out."
        raise BadSetting(msg)
    if masked and not plan.structures and not plan.verify:
        msg = "verify = false leaves the masks unread, so `structures` must name their values 1, 2, ... Set it."
        raise BadSetting(msg)
    if plan.label == "position" and not plan.cut.positions:
        msg = "label = 'position' needs the slices to be at the same places in every volume. Set at = [0.4, 0.5, ...]."
        raise BadSetting(msg)
    examined, lines = _examine(cases, total, plan, masked=masked)
    refused = (*refused, *lines)
    require_some(len(examined), refused, total)
    structures = ("background", *(plan.structures or map(str, range(1, 1 + max(one.largest for one in examined)))))
    reader = VolumeReader(examined, plan)
    return _dataset(name, reader, structures if masked else (), refused, card)


def _dataset(
    name: str, reader: VolumeReader, structures: tuple[str, ...], refused: tuple[str, ...], card: str
) -> Dataset:
    plan, examined = reader.plan, reader.examined
    own = {"mask": structures, "position": plan.cut.positions}.get(plan.label)
    classes = own or class_names(one.case.entry.label or "all" for one in examined)
    homes = [number for number, one in enumerate(examined) for _ in one.places]
    entries = [examined[home].case.entry for home in homes]
    labels = reader.labels() if own else [classes.index(entry.label or "all") for entry in entries]
    splits = splits_of(entries, labels, plan.fractions, plan.split_seed)
    records = tuple(
        Record(index=index, label=label, patient=entry.patient, split=split, site=entry.site)
        for index, (entry, label, split) in enumerate(zip(entries, labels, splits, strict=True))
    )
    given = "given by the source" if all(entry.split for entry in entries) else "by patient"
    patients = len({record.patient for record in records})
    spacing = plan.preparation.spacing
    scale = f"resampled to {' x '.join(f'{side:g}' for side in spacing)} mm" if spacing else "not resampled"
    stated = (
        f"{card} A record is one {plan.unit} (there are {len(records)}, of {len(examined)} volumes), the unit of "
        f"privacy is the patient ({patients}). Turned to RAS+, {scale}. Split {given}."
    )
    left_out = f" {len(refused)} files or volumes were refused." if refused else ""
    return Dataset(
        name=name,
        classes=classes,
        records=records,
        image_shape=(reader.channels, *plan.cut.shape),
        read=reader.read,
        card=(stated + left_out).strip(),
        unit=plan.unit,
        read_masks=reader.read_masks if structures else None,
        mask_classes=structures,
        refused=refused,
    )


def _examine(cases: Sequence[Case], total: int, plan: VolumePlan, *, masked: bool) -> tuple[list[Examined], list[str]]:
    channels = mode(case.volume.channels for case in cases) if cases else 1
    examined: list[Examined] = []
    refused = []
    for case in cases:
        try:
            examined.append(_examined(case, plan, channels, masked=masked))
        except Refused as why:
            refused.append(refusal(case.position, total, why, "The volume of file"))
    return examined, refused


def _examined(case: Case, plan: VolumePlan, channels: int, *, masked: bool) -> Examined:
    volume = case.volume
    if volume.channels != channels:
        msg = f"has {volume.channels} channels, but most have {channels}. Take it out"
        raise Refused(msg)
    if masked and volume.load_mask is None:
        msg = "has no mask, but others have. Add it, or take the image out"
        raise Refused(msg)
    places = plan.cut.places(plan.preparation.shape(volume), plan.preparation.in_plane(volume))
    return Examined(case=case, places=places, largest=_verify(volume, plan) if plan.verify else 0)


def _verify(volume: Volume, plan: VolumePlan) -> int:
    """Read the volume; return the largest value of its mask."""
    if not np.isfinite(volume.load()).all():
        msg = "has voxels that are not finite. Export it again"
        raise Refused(msg)
    if volume.load_mask is None:
        return 0
    mask = volume.load_mask()
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or (plan.structures and high > len(plan.structures)) or high > 2**15:
        known = len(plan.structures) or 2**15
        msg = f"has a mask with values from {low} to {high}; known are 0 to {known}. Name all of them in `structures`"
        raise Refused(msg)
    return high
