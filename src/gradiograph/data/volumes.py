"""Volumes of a source before any voxel is read, and what makes them comparable: orientation, spacing, grey values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data.refusals import Refused
from gradiograph.data.windows import apply_percentiles, apply_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_VOXELS = 2**29
"""The largest volume that is read: 2 GiB of float32, such as 512 x 512 x 2,048."""
_RAS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One volume of a source.

    Attributes:
        shape: (X, Y, Z) as stored.
        affine: (4, 4), from voxel indices to millimetres, RAS+.
        channels: C, at least 1.
        load: The values (C, X, Y, Z), float32, in the units of the modality.
        load_mask: The indices of its structures (X, Y, Z) on the same grid; None where it has no mask.
        window: Level and width; None for the 0.5th to 99.5th percentile of the volume.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64] = field(repr=False)
    channels: int
    load: Callable[[], NDArray[np.float32]] = field(repr=False)
    load_mask: Callable[[], NDArray[np.int64]] | None = field(default=None, repr=False)
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Preparation:
    """What is done to every volume: its axes are turned to RAS+, and it is resampled where a spacing is given.

    Images are resampled linearly, without a filter before it; masks take the nearest voxel. Then grey values are
    windowed.

    Attributes:
        spacing: Millimetres between voxels along x, y, z; None leaves them as they are.
    """

    spacing: tuple[float, float, float] | None = None

    def shape(self, volume: Volume) -> tuple[int, int, int]:
        """(X, Y, Z) after the preparation, without reading a voxel.

        Raises:
            Refused: it would be larger than what is read.
        """
        from monai.data.utils import compute_shape_offset  # here, because it takes seconds to import

        shape, affine = _turned(volume)
        if self.spacing is None:
            return shape
        ratio = _spacing(affine) / self.spacing
        if not float(np.prod(np.ceil(shape * ratio))) <= MAX_VOXELS:
            msg = f"would have more than {MAX_VOXELS:,} voxels at the spacing that is asked for. Raise `spacing`"
            raise Refused(msg)
        x, y, z = (int(side) for side in compute_shape_offset(shape, affine, affine @ np.diag([*1 / ratio, 1.0]))[0])
        return x, y, z

    def in_plane(self, volume: Volume) -> NDArray[np.float64]:
        """The distances between voxels along x, y, z in millimetres after the preparation."""
        return _spacing(_turned(volume)[1]) if self.spacing is None else np.array(self.spacing)

    def image(self, volume: Volume) -> NDArray[np.float32]:
        """(C, X, Y, Z), float32 in [0, 1]."""
        values = self._resampled(volume, volume.load(), "bilinear")
        if volume.window is not None:
            return apply_window(values, *volume.window)
        return np.stack([apply_percentiles(channel) for channel in values])

    def mask(self, volume: Volume) -> NDArray[np.int64]:
        """(X, Y, Z), the indices of the structures.

        Raises:
            Refused: the volume has no mask.
        """
        if volume.load_mask is None:
            msg = "has no mask. Add it, or take the image out"
            raise Refused(msg)
        stored = volume.load_mask()[None].astype(np.float32)
        indices: NDArray[np.int64] = np.rint(self._resampled(volume, stored, "nearest"))[0].astype(np.int64)
        return indices

    def _resampled(self, volume: Volume, values: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
        import torch
        from monai.data.meta_tensor import MetaTensor
        from monai.transforms.spatial.array import Orientation, Spacing

        stored = MetaTensor(values, affine=torch.from_numpy(volume.affine))
        tensor = Orientation(axcodes="RAS", labels=_RAS)(stored)
        if self.spacing is not None:
            tensor = Spacing(pixdim=self.spacing, mode=mode)(tensor)
        return np.ascontiguousarray(tensor.numpy(), np.float32)


def require_affine(affine: NDArray[np.float64]) -> None:
    """Raise `Refused` where an affine does not place voxels: not finite, or two axes that are one."""
    from nibabel.orientations import io_orientation

    placed = bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) >= 1e-9
    if not placed or np.isnan(io_orientation(affine)).any():
        msg = "has an orientation that places no voxel. Mend its header"
        raise Refused(msg)


def same_grid(first: Volume, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
    """Whether another volume has voxels at the same places: to a thousandth of a voxel in size, a tenth in place."""
    if tuple(shape) != first.shape:
        return False
    corners = np.array([[0, 0, 0, 1], [*(side - 1 for side in shape), 1]], float).T
    apart = np.abs((np.linalg.inv(first.affine) @ affine @ corners - corners)[:3])
    return bool(apart.max() < 0.1)


def _turned(volume: Volume) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine with the axes in the order and direction of RAS+."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(volume.affine)
    turned = volume.affine @ inv_ornt_aff(orientation, volume.shape)
    x, y, z = apply_orientation(np.broadcast_to(np.int8(0), volume.shape), orientation).shape
    return (x, y, z), turned


def _spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths
