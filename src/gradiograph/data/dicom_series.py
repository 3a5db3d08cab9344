"""Series of DICOM slices as volumes, in the order in which the slices lie in the patient."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data.dicom_pixels import frame_numbers, read_values
from gradiograph.data.refusals import Refused, refusal
from gradiograph.data.volume_reader import Case
from gradiograph.data.volumes import MAX_VOXELS, Volume, require_affine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradiograph.data.dicom_header import DicomImage
    from gradiograph.data.dicom_listing import Found

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TILT = 0.2
"""How far slices may drift sideways, in millimetres or pixels, whichever is more; beyond it the gantry was tilted."""


@dataclass(frozen=True, kw_only=True)
class _Slice:
    image: DicomImage = field(repr=False)
    frame: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]


def assemble(found: Sequence[Found], total: int, window: tuple[float, float] | str) -> tuple[list[Case], list[str]]:
    """The volumes of all series; a series of one slice is a volume of one slice.

    Slices are sorted by where ImagePositionPatient lies along the normal of ImageOrientationPatient (PS3.3
    C.7.6.2.1.1), never by file name or number. The frames of an enhanced multi-frame
    file count as slices. A localizer is left out.

    Args:
        found: The images.
        total: How many files there are.
        window: Level and width; "file": the first slice's own, where it has one; else the percentiles.

    Returns:
        The cases in the order of each series' first file, and a line for each series that is no volume.
    """
    cases: list[Case] = []
    refused = []
    series: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in found:
        series[one.entry.patient, one.image.text("SeriesInstanceUID") or str(one.position)].append(one)
    for files in series.values():
        first = files[0]
        try:
            volume = _volume([one.image for one in files], window)
        except Refused as why:
            what = f"The series of {len(files)} files that begins with file"
            refused.append(refusal(first.position, total, why, what))
        else:
            cases.append(Case(position=first.position, entry=first.entry, volume=volume))
    return cases, refused


def _volume(images: Sequence[DicomImage], window: tuple[float, float] | str) -> Volume:
    slices = [_slice(image, frame) for image in images if not _is_localizer(image) for frame in range(image.frames)]
    if not slices:
        msg = "is a localizer. Take it out"
        raise Refused(msg)
    normal = _require_parallel(slices)
    slices.sort(key=lambda one: float(one.position @ normal))
    rows, columns = slices[0].image.rows, slices[0].image.columns
    if rows * columns * len(slices) > MAX_VOXELS:
        msg = f"has {columns} x {rows} x {len(slices)} voxels; at most {MAX_VOXELS:,} are read"
        raise Refused(msg)
    affine = _affine(slices, _step(slices, normal))
    require_affine(affine)
    return Volume(
        shape=(columns, rows, len(slices)),
        affine=affine,
        channels=1,
        load=partial(_load, slices),
        window=_window(slices[0], window),
    )


def _slice(image: DicomImage, frame: int) -> _Slice:
    if image.text("PhotometricInterpretation") != "MONOCHROME2":
        msg = "is not MONOCHROME2, as volumes are. Set unit = 'image'"
        raise Refused(msg)
    position = frame_numbers(image, frame, "PlanePositionSequence", "ImagePositionPatient")
    orientation = frame_numbers(image, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = frame_numbers(image, frame, "PixelMeasuresSequence", "PixelSpacing")
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2) or not min(spacing) > 0:
        msg = (
            "does not say where its slices lie (ImagePositionPatient, ImageOrientationPatient, PixelSpacing). Set "
            "unit = 'image'"
        )
        raise Refused(msg)
    return _Slice(
        image=image,
        frame=frame,
        position=np.array(position),
        orientation=np.array(orientation),
        spacing=(spacing[0], spacing[1]),
    )


def _is_localizer(image: DicomImage) -> bool:
    return "LOCALIZER" in image.text("ImageType").upper()


def _require_parallel(slices: Sequence[_Slice]) -> NDArray[np.float64]:
    """The normal of the slices, which all have the same orientation, size and spacing."""
    first = slices[0]
    for other in slices[1:]:
        same = (other.image.rows, other.image.columns) == (first.image.rows, first.image.columns)
        same = same and np.allclose(other.orientation, first.orientation, atol=1e-3)
        if not same or not np.allclose(other.spacing, first.spacing, rtol=1e-3):
            msg = "has slices of several orientations, sizes or pixel spacings. Split it, or set unit = 'image'"
            raise Refused(msg)
    along, down = first.orientation[:3], first.orientation[3:]
    if not np.allclose([along @ along, down @ down, along @ down], [1, 1, 0], atol=1e-2):
        msg = "has an ImageOrientationPatient that is no pair of directions. Export it again"
        raise Refused(msg)
    normal: NDArray[np.float64] = np.cross(along, down)
    return normal


def _step(slices: Sequence[_Slice], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """From one slice to the next, in millimetres (LPS)."""
    if len(slices) == 1:
        thickness = frame_numbers(slices[0].image, slices[0].frame, "PixelMeasuresSequence", "SliceThickness")
        return normal * (thickness[0] if thickness and thickness[0] > 0 else 1.0)
    places = np.array([one.position @ normal for one in slices])
    gaps = np.diff(places)
    step = float(np.median(gaps))
    if gaps.min() < 1e-3:
        msg = "has several slices at one place (phases or echoes). Split it, or set unit = 'image'"
        raise Refused(msg)
    if gaps.max() > 1.5 * step:
        after = int(gaps.argmax()) + 1
        msg = f"lacks slices: {gaps.max():.2f} mm after slice {after}, elsewhere {step:.2f} mm. Complete it"
        raise Refused(msg)
    if gaps.max() - gaps.min() > 0.1 * step:
        msg = f"has uneven distances between slices, from {gaps.min():.2f} to {gaps.max():.2f} mm. Set unit = 'image'"
        raise Refused(msg)
    whole = slices[-1].position - slices[0].position
    drift = float(np.linalg.norm(whole - (whole @ normal) * normal))
    if drift > max(TILT, TILT * min(slices[0].spacing)):
        msg = f"has a tilted gantry: slices drift {drift:.1f} mm sideways. Resample it, or set unit = 'image'"
        raise Refused(msg)
    return whole / (len(slices) - 1)


def _affine(slices: Sequence[_Slice], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (column, row, slice) to millimetres, RAS+ (PS3.3 equation C.7.6.2.1-1, with DICOM's L and P turned)."""
    first = slices[0]
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    turned: NDArray[np.float64] = _TO_RAS @ affine
    return turned


def _window(first: _Slice, window: tuple[float, float] | str) -> tuple[float, float] | None:
    if not isinstance(window, str):
        return window
    level = frame_numbers(first.image, first.frame, "FrameVOILUTSequence", "WindowCenter")
    width = frame_numbers(first.image, first.frame, "FrameVOILUTSequence", "WindowWidth")
    return (level[0], width[0]) if window == "file" and level and width and width[0] > 0 else None


def _load(slices: Sequence[_Slice]) -> NDArray[np.float32]:
    first = slices[0].image
    values = np.empty((1, first.columns, first.rows, len(slices)), np.float32)
    for number, one in enumerate(slices):
        values[0, :, :, number] = read_values(one.image, one.frame).T
    return values
