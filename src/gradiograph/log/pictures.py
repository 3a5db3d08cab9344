"""Arrays of images as bytes: exact for re-scoring (npz), 8 bits for looking (PNG)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradiograph.log.atomic import write_new

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 256
"""Of a picture to look at, in pixels, about."""
RECONSTRUCTION, ORIGINAL = "RECONSTRUCTION - PRIVACY AUDIT", "ORIGINAL - PRIVACY AUDIT"
CONTROL = "CONTROL - PRIVACY AUDIT"

_PLANAR = 4
_WIDTH = 0.94
"""Of the mark, as a share of the picture's."""
_LETTERS = 20.0
_SHIFT = 70
"""Of 255: by how much the mark is lighter or darker than the film below it."""


def mark_of(control: str) -> str:
    """The mark of a cell's pictures, by what the cell is.

    >>> mark_of("none"), mark_of("stock_film")
    ('RECONSTRUCTION - PRIVACY AUDIT', 'CONTROL - PRIVACY AUDIT')
    """
    return RECONSTRUCTION if control == "none" else CONTROL


def pack(images: NDArray[Any]) -> bytes:
    """Compressed npz with the one array `images`: float16 stays, all else becomes float32.

    Args:
        images: (B, C, H, W) in [0, 1].

    Raises:
        ValueError: the array has another number of axes.
    """
    if images.ndim != _PLANAR:
        msg = f"Images need the axes (B, C, H, W); got shape {images.shape}."
        raise ValueError(msg)
    kept = images if images.dtype == np.float16 else images.astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=kept)
    return buffer.getvalue()


def fill_images(folder: Path, images: NDArray[Any], mark: str) -> None:
    """Write the array, and a marked picture of each image to look at, into a folder of `atomic.new_folder`."""
    write_new(folder / "images.npz", pack(images))
    for number, image in enumerate(images):
        # Only to look at, and made from the array beside it: not worth the wait for the disk.
        write_new(folder / f"{number}.png", png(image, mark), sync=False)


def unpack(path: Path) -> NDArray[np.float32]:
    """The array that `pack` wrote, as float32."""
    with np.load(path, allow_pickle=False) as stored:
        images: NDArray[np.float32] = stored["images"].astype(np.float32)
    return images


def pack_masks(masks: NDArray[np.int64]) -> bytes:
    """Compressed npz with the one array `masks` (B, H, W), int16."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, masks=masks.astype(np.int16))
    return buffer.getvalue()


def unpack_masks(path: Path) -> NDArray[np.int64]:
    """The array that `pack_masks` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        masks: NDArray[np.int64] = stored["masks"].astype(np.int64)
    return masks


def png(image: NDArray[Any], mark: str) -> bytes:
    """An 8-bit PNG of about 256 pixels that carries a mark across it: no picture leaves a run without one.

    Args:
        image: (C, H, W) in [0, 1], clipped; three channels are colour, any other number is averaged to grey.
        mark: What the picture is.
    """
    levels = np.rint(np.clip(np.asarray(image, dtype=np.float32), 0.0, 1.0) * 255.0)
    pixels = levels.transpose(1, 2, 0) if len(levels) == 3 else levels.mean(axis=0)
    picture = _marked(_at_size(Image.fromarray(pixels.astype(np.uint8))), mark)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _at_size(picture: Image.Image) -> Image.Image:
    """Larger by a whole factor, so that every pixel stays one, or smaller."""
    longest = max(picture.size)
    if longest > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return picture
    factor = max(1, SIDE // longest)
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _marked(picture: Image.Image, mark: str) -> Image.Image:
    """The text twice across the picture, pale enough to look through and too large to crop."""
    layer = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(layer)
    usual = ImageFont.load_default(size=_LETTERS)
    font = ImageFont.load_default(size=_LETTERS * _WIDTH * picture.width / usual.getlength(mark))
    for height in (0.3, 0.7):
        draw.text((picture.width / 2, height * picture.height), mark, fill=255, font=font, anchor="mm")
    # Lighter where the film is dark, darker where it is light: it is seen on both.
    shifted = picture.point(lambda level: level - _SHIFT if level > 127 else level + _SHIFT)
    return Image.composite(shifted, picture, layer)
