"""Arrays of images as bytes: exact for re-scoring (npz), 8 bits for looking (PNG)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradiograph.log.atomic import write_new

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PLANAR = 4


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


def fill_images(folder: Path, images: NDArray[Any]) -> None:
    """Write the array and a picture of each image into a folder of `atomic.new_folder`."""
    write_new(folder / "images.npz", pack(images))
    for number, image in enumerate(images):
        # Only to look at, and made from the array beside it: not worth the wait for the disk.
        write_new(folder / f"{number}.png", png(image), sync=False)


def unpack(path: Path) -> NDArray[np.float32]:
    """The array that `pack` wrote, as float32."""
    with np.load(path, allow_pickle=False) as stored:
        images: NDArray[np.float32] = stored["images"].astype(np.float32)
    return images


def png(image: NDArray[Any], largest: int | None = None) -> bytes:
    """An 8-bit PNG.

    Args:
        image: (C, H, W) in [0, 1], clipped; three channels are colour, any other number is averaged to grey.
        largest: Shrink so that no side is longer than this many pixels.
    """
    levels = np.rint(np.clip(np.asarray(image, dtype=np.float32), 0.0, 1.0) * 255.0)
    colour = len(levels) == 3
    pixels = levels.transpose(1, 2, 0) if colour else levels.mean(axis=0)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if largest is not None and max(picture.size) > largest:
        picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
