"""Burned-in text, blackened in the pixels of a DICOM image and read once more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from gradiograph.core.errors import DataProblem
from gradiograph.deid.text import to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from gradiograph.deid.text import TextRegion

LARGEST: Final = 1 << 31
"""Bytes of decoded pixels above which a file is refused."""

_OFFSETS = (0x7FE00001, 0x7FE00002)  # of compressed frames
_FRAMES = 8  # of a longer loop these are read, evenly spread, and its brightest and darkest projection
_ROUNDS = 4
_ALONG, _ACROSS = 0.5, 0.15  # of a line's height: how far it is grown; a line's first or last letter may be missed
_MARKERS = re.compile(
    r"[RL]|RT|LT|LEFT|RIGHT|[RL]\s?(?:MLO|CC|XCCL|ML|LM)|PA|AP|LAT|LATERAL|ERECT|SUPINE|PRONE|DECUB(?:ITUS)?"
)


class Finder(Protocol):
    """What finds text: `TextFinder`, or another in a test."""

    def find(self, image: NDArray[np.uint8]) -> tuple[TextRegion, ...]:
        """The lines of text in an (H, W) or (H, W, 3) image."""
        ...


@dataclass(frozen=True, kw_only=True)
class Blackened:
    """What was done to the pixels of an image.

    Attributes:
        frames: How many the image has.
        frames_read: How many of them were looked at; fewer than `frames` in long loops.
        regions: Lines of text that were blackened.
        markers: Marks of the side or the view that were left.
        share: Of the image's pixels, in [0, 1].
    """

    frames: int = 0
    frames_read: int = 0
    regions: int = 0
    markers: int = 0
    share: float = 0.0


def blacken_text(image: Dataset, finder: Finder) -> Blackened:
    """Blacken burned-in text in all frames, in place, until none is found any more.

    The pixel data stays as it is, compression included, where there is no text; else it is written uncompressed.

    Args:
        image: With pixel data; without, nothing happens.
        finder: Finds the text.

    Raises:
        DataProblem: the pixels cannot be decoded, are too many, or text is left after the last round.
    """
    if "PixelData" not in image or image.get("BitsAllocated") == 1:
        return Blackened()
    values = decode(image)
    frames = values[None] if _is_single(image) else values
    chosen = _chosen(len(frames))
    height, width = frames.shape[1:3]
    mask = np.zeros((height, width), bool)
    regions = markers = 0
    dark = _darkest(image, frames)
    for _ in range(_ROUNDS):
        found = [region for seen in _views(image, frames, chosen) for region in finder.find(seen)]
        text = [region for region in found if not is_marker(region.text)]
        markers = max(markers, len(found) - len(text))
        if not text:
            break
        for region in text:
            regions += not _is_within(region, mask)
            mask |= cover([region], (height, width))
        frames = np.where(mask[None, ..., None] if frames.ndim == 4 else mask[None], dark, frames)
    else:
        msg = f"Text is still found after blackening it {_ROUNDS} times; look at the image and blacken it by hand."
        raise DataProblem(msg)
    if regions:
        _write(image, frames if len(frames) > 1 or not _is_single(image) else frames[0])
    return Blackened(
        frames=len(frames), frames_read=len(chosen), regions=regions, markers=markers, share=float(mask.mean())
    )


def decode(image: Dataset) -> NDArray[Any]:
    """The pixels: (H, W), (H, W, 3), (N, H, W) or (N, H, W, 3), colour as RGB, palettes as indices.

    Raises:
        DataProblem: they cannot be decoded, or are too many.
    """
    sides = (image.get("Rows"), image.get("Columns"), image.get("SamplesPerPixel", 1), image.get("NumberOfFrames") or 1)
    try:
        size = int(np.prod([int(side) for side in sides], dtype=object)) * max(int(image.get("BitsAllocated")) // 8, 1)
    except (TypeError, ValueError):
        msg = "The header does not say how large the image is."
        raise DataProblem(msg) from None
    if not 0 < size <= LARGEST:
        msg = f"The header promises {size:,} bytes of pixels; 1 to {LARGEST:,} can be looked at."
        raise DataProblem(msg)
    try:
        return pixel_array(image, raw=False)
    except Exception as error:  # decoders raise whatever they like
        msg = f"The pixels cannot be decoded ({type(error).__name__}); burned-in text cannot be looked for."
        raise DataProblem(msg) from None


def is_marker(text: str) -> bool:
    """Whether a reading is a mark of the side or of the view, which stays.

    >>> is_marker(" l "), is_marker("R MLO"), is_marker("A-P"), is_marker("Lee")
    (True, True, True, False)
    """
    return _MARKERS.fullmatch(re.sub(r"[\W_]", "", text).upper()) is not None


def cover(regions: Iterable[TextRegion], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels to blacken: each region, grown a little.

    Args:
        regions: Lines of text.
        shape: Height and width of the image.

    Returns:
        (H, W), true in the regions.
    """
    from PIL import Image, ImageDraw

    drawn = Image.new("1", (shape[1], shape[0]))
    for region in regions:
        ImageDraw.Draw(drawn).polygon([(x, y) for x, y in _grown(np.array(region.corners))], fill=1)
    return np.asarray(drawn)


def _grown(corners: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Every corner, moved outwards: further along the line than across it."""
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.maximum(np.linalg.norm(sides, axis=1), 1e-6)
    height = min(lengths[0], lengths[1])
    reach = height * np.where(lengths > height, _ALONG, _ACROSS)
    steps = sides / lengths[:, None] * reach[:, None]
    # A corner ends one side and begins the next.
    return [(float(x), float(y)) for x, y in corners + np.roll(steps, 1, axis=0) - steps]


def _is_within(region: TextRegion, mask: NDArray[np.bool_]) -> bool:
    """Whether the middle of a line is black already: the same line in another frame, or a rest of it."""
    x, y = np.mean(region.corners, axis=0)
    return bool(mask[min(max(int(y), 0), mask.shape[0] - 1), min(max(int(x), 0), mask.shape[1] - 1)])


def _is_single(image: Dataset) -> bool:
    return int(image.get("NumberOfFrames") or 1) == 1


def _chosen(frames: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, frames - 1, min(frames, _FRAMES))})


def _views(image: Dataset, frames: NDArray[Any], chosen: Sequence[int]) -> list[NDArray[np.uint8]]:
    """What the finder sees, in 8 bit: the chosen frames, and of long loops their extremes over time."""
    seen = [frames[place] for place in chosen]
    if len(frames) > len(chosen):
        seen += [frames.max(axis=0), frames.min(axis=0)]
    if image.get("PhotometricInterpretation") == "PALETTE COLOR":
        seen = [apply_color_lut(frame, image) for frame in seen]
    return [to_bytes(frame) for frame in seen]


def _darkest(image: Dataset, frames: NDArray[Any]) -> Any:  # noqa: ANN401
    """The value that is shown black."""
    interpretation = image.get("PhotometricInterpretation")
    if interpretation == "MONOCHROME1":
        return frames.max()
    if interpretation == "PALETTE COLOR":
        used = np.unique(frames)
        return used[apply_color_lut(used[None], image).sum(axis=-1).argmin()]
    return frames.min()


def _write(image: Dataset, values: NDArray[Any]) -> None:
    """Put pixels back, uncompressed; colour as RGB, pixel by pixel."""
    syntax = image.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        syntax = image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    order: Literal["<", ">"] = "<" if syntax.is_little_endian else ">"
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if image.get("SamplesPerPixel", 1) == 3:
        image.PhotometricInterpretation, image.PlanarConfiguration = "RGB", 0
    image.BitsAllocated = values.dtype.itemsize * 8
    image.add_new(0x7FE00010, "OB" if values.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
    for tag in _OFFSETS:
        image.pop(tag, None)
