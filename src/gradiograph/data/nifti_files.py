"""NIfTI files as volumes: the header is checked first, voxels are read when they are asked for."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradiograph.data.quiet import quiet
from gradiograph.data.refusals import Refused
from gradiograph.data.volumes import MAX_VOXELS, Volume, require_affine, same_grid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".nii", ".nii.gz")
MAX_EXTENSIONS = 2**26
_MAGICS = {b"n+1\0": (348, 344), b"n+2\0\r\n\032\n": (540, 4)}
_DAMAGED = "cannot be read: it is damaged or cut off. Copy it again"


def stem(name: str) -> str:
    """A file name without `.nii` or `.nii.gz`.

    >>> stem("hippocampus_001.nii.gz")
    'hippocampus_001'
    """
    return name.removesuffix(".gz").removesuffix(".nii")


def open_nifti(file: Path, window: tuple[float, float] | None = None) -> Volume:
    """A volume from its header.

    Args:
        file: `.nii` or `.nii.gz`, NIfTI-1 or NIfTI-2 in one file; three dimensions, or four whose last are channels.
        window: Level and width; see `Volume`.

    Raises:
        Refused: it is no such file, says nothing of its orientation, or is too large.
    """
    header = _described(file)
    shape = header.shape
    if not header.oriented:
        msg = "does not say how the patient lies in it (sform_code and qform_code are 0). Mend its header"
        raise Refused(msg)
    channels = 1
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    if len(shape) == 4:
        channels, shape = shape[3], shape[:3]
    if len(shape) != 3:
        msg = f"has {len(shape)} dimensions; read are 3, or 4 whose last are channels"
        raise Refused(msg)
    if min(*shape, channels) < 1:
        msg = f"says that it has {' x '.join(map(str, shape))} voxels of {channels} channels: nothing. Export it again"
        raise Refused(msg)
    if channels * int(np.prod(shape, dtype=np.int64)) > MAX_VOXELS:
        msg = f"says that it has {' x '.join(map(str, shape))} voxels; at most {MAX_VOXELS:,} are read"
        raise Refused(msg)
    if header.kind not in "iuf":
        msg = "holds colours or complex numbers; read are whole and floating-point numbers"
        raise Refused(msg)
    require_affine(header.affine)
    x, y, z = shape
    return Volume(shape=(x, y, z), affine=header.affine, channels=channels, load=partial(_values, file), window=window)


def with_mask(volume: Volume, mask: Path, *, other_grid: bool = False) -> Volume:
    """The volume with a mask from a second file.

    Args:
        volume: The image.
        mask: A NIfTI file of whole numbers.
        other_grid: Take a mask on another grid too, each voxel of the image from the nearest of the mask.

    Raises:
        Refused: the mask cannot be read, has channels, or lies on another grid.
    """
    try:
        opened = open_nifti(mask)
    except Refused as why:
        msg = f"has a mask that {why}"
        raise Refused(msg) from None
    if opened.channels != 1:
        msg = f"has a mask with {opened.channels} channels; read are masks of one"
        raise Refused(msg)
    same = same_grid(volume, opened.shape, opened.affine)
    if not same and not other_grid:
        msg = (
            f"has a mask on another grid ({' x '.join(map(str, opened.shape))} voxels for "
            f"{' x '.join(map(str, volume.shape))}, or at another place). Set other_grid = 'resample', or resample it"
        )
        raise Refused(msg)
    return replace(volume, load_mask=partial(_indices, mask, opened, None if same else volume))


class _Header(NamedTuple):
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    kind: str
    oriented: bool


def _described(file: Path) -> _Header:
    with quiet():
        try:
            image = _load(file)
            return _Header(
                shape=tuple(int(side) for side in image.shape),
                affine=np.asarray(image.affine, np.float64),
                kind=image.get_data_dtype().kind,
                oriented=bool(image.header["sform_code"] or image.header["qform_code"]),
            )
        except Refused:
            raise
        except OSError:
            reason = _DAMAGED
        except Exception:  # nibabel raises what it likes on damaged headers.
            reason = "has a header that cannot be read. Export it again"
    raise Refused(reason)


def _load(file: Path) -> Any:  # noqa: ANN401 - nibabel has no types
    import nibabel

    _require_header(file)
    return nibabel.load(file)


def _require_header(file: Path) -> None:
    """Look at the first bytes before nibabel reads as many extensions as the file says it has."""
    if not file.stat().st_size:
        msg = "is empty: 0 bytes. Copy it again"
        raise Refused(msg)
    zipped = file.name.endswith(".gz")
    try:
        with gzip.open(file) if zipped else file.open("rb") as stream:
            head = stream.read(540)
    except (OSError, EOFError, zlib.error):
        raise Refused(_DAMAGED) from None
    for magic, (size, place) in _MAGICS.items():
        if len(head) >= size and head[place : place + len(magic)] == magic:
            break
    else:
        msg = "is no NIfTI file in one part (.nii, .nii.gz). Take it out or convert it"
        raise Refused(msg)
    order = "<" if struct.unpack_from("<i", head)[0] == size else ">"
    kind, at = ("f", 108) if size == 348 else ("q", 168)
    (offset,) = struct.unpack_from(order + kind, head, at)
    if not 0 <= offset <= MAX_EXTENSIONS:
        msg = f"puts its voxels at byte {offset:g}; at most {MAX_EXTENSIONS} are skipped"
        raise Refused(msg)


def _values(file: Path) -> NDArray[np.float32]:
    with quiet():
        try:
            values = np.asarray(_load(file).get_fdata(dtype=np.float32, caching="unchanged"))
        except Refused:
            raise
        except Exception:  # zlib, gzip and numpy each have their own way to say that a file is cut off.
            raise Refused(_DAMAGED) from None
    if values.ndim == 5:
        values = values[:, :, :, 0]
    return values[None] if values.ndim == 3 else np.moveaxis(values, 3, 0)


def _indices(file: Path, mask: Volume, image: Volume | None) -> NDArray[np.int64]:
    values = _values(file)[0]
    if not np.isfinite(values).all() or not np.array_equal(values, np.rint(values)):
        msg = "has a mask with values that are no whole numbers. Give indices of structures, 0 for the background"
        raise Refused(msg)
    indices = values.astype(np.int64)
    return indices if image is None else _on_grid(indices, mask.affine, image)


def _on_grid(indices: NDArray[np.int64], affine: NDArray[np.float64], image: Volume) -> NDArray[np.int64]:
    """The nearest voxel of a mask for each voxel of the image; 0 outside of the mask."""
    from scipy.ndimage import affine_transform

    step = np.linalg.inv(affine) @ image.affine
    nearest = affine_transform(indices, step[:3, :3], step[:3, 3], output_shape=image.shape, order=0, mode="constant")
    return np.asarray(nearest, np.int64)
