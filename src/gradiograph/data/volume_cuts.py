"""The settings of every source of volumes, as a cut and a preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from gradiograph.core.errors import BadSetting
from gradiograph.data.cuts import Cut, Patches, Plane, Slices, Whole

if TYPE_CHECKING:
    from gradiograph.core.records import Unit

VolumeUnit = Literal["slice", "patch", "volume"]
Side = Annotated[int, Field(ge=1, le=1024)]
Size = tuple[Side, Side, Side]


def _positive(spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(spacing) <= 0:
        msg = f"spacing {list(spacing)} must be millimetres above 0 along x, y, z"
        raise ValueError(msg)
    return spacing


Spacing = Annotated[tuple[float, float, float], AfterValidator(_positive)]
At = tuple[Annotated[float, Field(ge=0, le=1)], ...]
VolumeLabel = Literal["source", "mask", "position"]


def make_cut(
    unit: Unit,
    *,
    image_size: int | None,
    size: Size | None,
    plane: Plane,
    every: int,
    upsample: bool,
    spacing: Spacing | None,
    at: tuple[float, ...] = (),
) -> Cut:
    """The cut that a source's settings describe.

    Raises:
        BadSetting: the size of a slice, patch or volume is missing, or one of another unit is given.
    """
    if unit == "slice":
        if image_size is None or size is not None:
            msg = f"unit = 'slice' takes image_size, not size; image_size = {image_size}, size = {size}. Mend them."
            raise BadSetting(msg)
        if at and every > 1:
            msg = f"at = {list(at)} says which slices, and so does every = {every}. Leave one out."
            raise BadSetting(msg)
        keep = spacing is not None
        return Slices(size=image_size, plane=plane, every=every, at=at, keep_scale=keep, upsample=upsample)
    if at:
        msg = f"unit = '{unit}' takes no `at`, which chooses slices. Leave it out."
        raise BadSetting(msg)
    if size is None or image_size is not None:
        msg = f"unit = '{unit}' takes size = [D, H, W], not image_size; they are {size} and {image_size}. Mend them."
        raise BadSetting(msg)
    return Patches(size) if unit == "patch" else Whole(size)
