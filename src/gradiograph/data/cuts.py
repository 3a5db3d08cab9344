"""Records out of volumes: 2-D slices, 3-D patches, or the whole volume at one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradiograph.data.refusals import Refused

Plane = Literal["axial", "coronal", "sagittal"]
Place = tuple[int, ...]
Shape = tuple[int, int, int]
_ACROSS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


class Cut(Protocol):
    """A way to cut records out of a prepared volume, whose axes are x to the right, y to anterior, z to superior."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""

    @property
    def positions(self) -> tuple[str, ...]:
        """What the places are called that are the same in every volume; none where each has its own."""

    def places(self, shape: Shape, spacing: NDArray[np.float64]) -> Sequence[Place]:
        """Where the records of a volume (X, Y, Z) are; raises `Refused` where it does not fit."""

    def take(self, values: NDArray[Any], place: Place, *, mask: bool = False) -> NDArray[Any]:
        """(C, X, Y, Z) -> (C, *shape)."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """2-D slices as a reader sees them: anterior or superior up, the patient's right (or anterior) on the left.

    Attributes:
        size: Pixels of a side.
        plane: Which slices.
        every: Every how-manieth slice, from the first.
        at: Or the slices at these places only, as shares of the way from the first slice to the last.
        keep_scale: Cut out or pad the centre, so that a pixel stays as many millimetres; else the centre is cropped to
            the short edge and resized.
        upsample: Allow slices smaller than `size` where they are resized.
    """

    size: int
    plane: Plane = "axial"
    every: int = 1
    at: tuple[float, ...] = ()
    keep_scale: bool = False
    upsample: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return (self.size, self.size)

    @property
    def positions(self) -> tuple[str, ...]:
        """The shares in percent."""
        return tuple(f"{100 * share:g} %" for share in self.at)

    def places(self, shape: Shape, spacing: NDArray[np.float64]) -> Sequence[Place]:
        """The index of each slice.

        Raises:
            Refused: pixels are not square, or too few.
        """
        across = _ACROSS[self.plane]
        sides = [side for axis, side in enumerate(shape) if axis != across]
        widths = np.delete(spacing, across)
        if abs(widths[0] / widths[1] - 1) > 0.01:
            msg = (
                f"has {self.plane} pixels of {widths[0]:.2f} x {widths[1]:.2f} mm, which are not square. Set `spacing` "
                "to resample it"
            )
            raise Refused(msg)
        if not self.keep_scale and not self.upsample and min(sides) < self.size:
            msg = f"has {self.plane} slices of {sides[0]} x {sides[1]}, fewer than image_size = {self.size}. "
            raise Refused(msg + "Lower image_size, set upsample = true, or set `spacing`, which pads")
        if not self.at:
            return [(number,) for number in range(0, shape[across], self.every)]
        numbers = [round(share * (shape[across] - 1)) for share in self.at]
        if len(set(numbers)) < len(numbers):
            msg = f"has {shape[across]} {self.plane} slices, too few for {len(numbers)} different places. Shorten `at`"
            raise Refused(msg)
        return [(number,) for number in numbers]

    def take(self, values: NDArray[Any], place: Place, *, mask: bool = False) -> NDArray[Any]:
        """(C, X, Y, Z) -> (C, H, W)."""
        plane = np.take(values, place[0], axis=1 + _ACROSS[self.plane]).swapaxes(1, 2)[:, ::-1, ::-1]
        if self.keep_scale:
            return centred(plane, self.shape)
        edge = min(plane.shape[1:])
        square = centred(plane, (edge, edge))
        return np.stack([_resized(channel, self.size, mask=mask) for channel in square])


@dataclass(frozen=True)
class Patches:
    """3-D patches in a grid without gaps; the last along an axis ends at the border, so it may overlap the one before.

    A volume that is smaller than a patch is padded with zeros around its centre.

    Attributes:
        size: (D, H, W): voxels along z, y, x.
    """

    size: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return self.size

    @property
    def positions(self) -> tuple[str, ...]:
        """None."""
        return ()

    def places(self, shape: Shape, spacing: NDArray[np.float64]) -> Sequence[Place]:
        """The first voxel (x, y, z) of each patch."""
        return list(product(*(_starts(side, size) for side, size in zip(shape, self.size[::-1], strict=True))))

    def take(self, values: NDArray[Any], place: Place, *, mask: bool = False) -> NDArray[Any]:
        """(C, X, Y, Z) -> (C, D, H, W), RAS+: from inferior up, from posterior forwards, from left to right."""
        spans = (slice(start, start + size) for start, size in zip(place, self.size[::-1], strict=True))
        return centred(values[(slice(None), *spans)].transpose(0, 3, 2, 1), self.size)


@dataclass(frozen=True)
class Whole:
    """The whole volume, its centre cut out or padded with zeros to one size.

    Attributes:
        size: (D, H, W): voxels along z, y, x.
    """

    size: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return self.size

    @property
    def positions(self) -> tuple[str, ...]:
        """None."""
        return ()

    def places(self, shape: Shape, spacing: NDArray[np.float64]) -> Sequence[Place]:
        """One record."""
        return [()]

    def take(self, values: NDArray[Any], place: Place, *, mask: bool = False) -> NDArray[Any]:
        """(C, X, Y, Z) -> (C, D, H, W), RAS+."""
        return centred(values.transpose(0, 3, 2, 1), self.size)


def centred(values: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """The centre of (C, *spatial), cut out or padded with zeros to (C, *size).

    >>> centred(np.array([[1, 2, 3, 4]]), (2,)), centred(np.array([[1, 2]]), (4,))
    (array([[2, 3]]), array([[0, 1, 2, 0]]))
    """
    result = np.zeros((len(values), *size), values.dtype)
    kept = [min(old, new) for old, new in zip(values.shape[1:], size, strict=True)]
    take = [slice((old - k) // 2, (old - k) // 2 + k) for old, k in zip(values.shape[1:], kept, strict=True)]
    put = [slice((new - k) // 2, (new - k) // 2 + k) for new, k in zip(size, kept, strict=True)]
    result[(slice(None), *put)] = values[(slice(None), *take)]
    return result


def _starts(side: int, size: int) -> list[int]:
    count = ceil(side / size)
    return [min(number * size, max(side - size, 0)) for number in range(count)]


def _resized(plane: NDArray[Any], size: int, *, mask: bool) -> NDArray[Any]:
    picture = Image.fromarray(np.ascontiguousarray(plane, np.int32 if mask else np.float32))
    small = picture.resize((size, size), Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS)
    # Lanczos rings beside edges.
    return np.asarray(small).astype(plane.dtype) if mask else np.asarray(small).clip(0, 1)
