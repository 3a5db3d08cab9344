"""Films on disk to arrays: header checks for all, decoding, crop and resize for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from gradiograph.core.errors import DataProblem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""What is decoded. Pillow's other formats, some of which start programs, stay shut."""

GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, as in Pillow, but without rounding to 8 bits."""


class _Header(NamedTuple):
    short_edge: int
    mode: str
    frames: int


def check_images(files: Sequence[Path], image_size: int, *, bits: int | None, upsample: bool) -> None:
    """Refuse a set of images that cannot all be read at this size, from their headers (and a PNG's check sums).

    Args:
        files: The images in sorted order; messages name them by position.
        image_size: Pixels of a side after the crop.
        bits: See `read_image`.
        upsample: Whether an image may be smaller than `image_size`.

    Raises:
        DataProblem: an image is no PNG, JPEG, TIFF or BMP, has several frames, a pixel type that is not handled,
            fewer bits than `bits`, or is too small.
    """
    headers = [_header(file) for file in files]
    total = len(files)
    unreadable = [n for n, header in enumerate(headers, 1) if header is None]
    _refuse(unreadable, total, f"cannot be read as {', '.join(FORMATS)}", "Replace it or take it out")
    known = [header for header in headers if header is not None]
    films = [n for n, header in enumerate(known, 1) if header.frames > 1]
    _refuse(films, total, "holds more than one frame", "Export one frame")
    modes = (*GREY_MODES, *DEEP_MODES, *COLOUR_MODES)
    strange = [n for n, header in enumerate(known, 1) if header.mode not in modes]
    _refuse(strange, total, "has a pixel type that is not handled", f"Pillow's modes that are: {', '.join(modes)}")
    if bits is not None and bits > 8:
        shallow = [n for n, header in enumerate(known, 1) if header.mode not in DEEP_MODES]
        _refuse(shallow, total, f"has 8 bits a channel, but bits = {bits}", "Leave `bits` out")
    _refuse_small([header.short_edge for header in known], image_size, upsample)


def read_image(file: Path, image_size: int, channels: int, *, bits: int | None, position: str) -> NDArray[np.float32]:
    """Decode one image, crop the centre to its short edge, resize it (Lanczos, antialiased).

    Args:
        file: PNG, JPEG, TIFF or BMP.
        image_size: Pixels of a side of the result.
        channels: 1: colours become luma. 3: grey is repeated.
        bits: What counts as white is 2^bits - 1. None: 255 for 8-bit images, 65535 for 16-bit ones, even where
            only 12 bits are in use. (Pillow reads 16-bit colour as 8-bit.)
        position: What to call the image in a message.

    Returns:
        (channels, image_size, image_size) in [0, 1]. Transparency is ignored. An image that is already square and
        of this size keeps its values exactly.

    Raises:
        DataProblem: the pixels cannot be decoded, or are negative or more than white.
    """
    try:
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            deep = image.mode in DEEP_MODES
            pixels = np.asarray(image if deep else _without_alpha(image), np.float32)
    except Exception:  # Pillow's decoders raise what they like, and put the path into the message.
        msg = f"{position} cannot be decoded: it is damaged or cut off. Replace it or take it out."
        raise DataProblem(msg) from None
    white = 2 ** (bits or (16 if deep else 8)) - 1
    if pixels.min() < 0 or pixels.max() > white:
        msg = (
            f"{position} has values from {pixels.min():.0f} to {pixels.max():.0f}; allowed are 0 to {white} "
            f"(bits = {bits or 'auto'}). Set `bits` to the depth in use, or leave it out."
        )
        raise DataProblem(msg)
    planes = _planes(pixels / np.float32(white), channels)
    small = np.stack([crop_and_resize(plane, image_size) for plane in planes])
    # Lanczos rings beside edges.
    return np.repeat(small, channels // len(small), axis=0).clip(0, 1)


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.mode in GREY_MODES:
        return image.convert("L")
    # Pillow warns where a palette's transparency is dropped in one step.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def _planes(pixels: NDArray[np.float32], channels: int) -> list[NDArray[np.float32]]:
    if pixels.ndim == 2:
        return [pixels]
    if channels == 1:
        return [pixels @ LUMA]
    return [pixels[..., channel] for channel in range(3)]


def crop_and_resize(plane: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The centre of a plane (H, W), square with its short edge, resized to (size, size) by Lanczos; it may ring."""
    height, width = plane.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = np.ascontiguousarray(plane[top : top + edge, left : left + edge])
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS), np.float32)


def _header(file: Path) -> _Header | None:
    try:
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            header = _Header(min(image.size), image.mode, getattr(image, "n_frames", 1))
            image.verify()
    except Exception:  # Pillow's parsers raise what they like on damaged files.
        return None
    return header


def _refuse(numbers: list[int], total: int, what: str, advice: str) -> None:
    if numbers:
        msg = f"Image {numbers[0]} of {total} (in sorted order) {what} (images like this: {len(numbers)}). {advice}."
        raise DataProblem(msg)


def _refuse_small(short_edges: list[int], image_size: int, upsample: bool) -> None:
    small = sum(1 for edge in short_edges if edge < image_size)
    if small and not upsample:
        edge = min(short_edges)
        # `folder` takes no image_size under 8.
        smaller = f"image_size <= {edge} or " if edge >= 8 else ""
        msg = (
            f"{small} of {len(short_edges)} images are smaller than image_size = {image_size}: smallest short edge "
            f"{edge}. Set {smaller}upsample = true."
        )
        raise DataProblem(msg)
