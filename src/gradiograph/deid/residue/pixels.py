"""Text in the pixels of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradiograph.deid.descriptions import clean_text
from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.text import to_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from gradiograph.deid.residue.finding import Sight
    from gradiograph.deid.text import TextFinder

_SURE = 0.6  # of a reading; below, the finder reads anatomy
_LEAST = 4  # letters and digits; R, L and AP stay
_FRAMES = 3


def scan_dicom_pixels(dataset: Dataset, sight: Sight, finder: TextFinder) -> None:
    """Read the first, the middle and the last frame of an image."""
    if "PixelData" not in dataset:
        return
    try:
        frames = _frames(dataset.pixel_array, dataset)
    except Exception:
        sight.unchecked.add("pixels that cannot be decoded")
        return
    chosen = sorted({0, len(frames) // 2, len(frames) - 1})
    if len(chosen) < len(frames):
        sight.unchecked.add(f"the text in frames beyond {_FRAMES} of an image")
    for number in chosen:
        _scan_frame(frames[number], f"frame {number + 1}", sight, finder)


def scan_picture(path: Path, sight: Sight, finder: TextFinder) -> None:
    """Read a PNG, JPEG or TIFF."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB") if picture.mode in ("P", "RGBA", "CMYK") else picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        sight.unchecked.add("pixels that cannot be decoded")
        return
    _scan_frame(pixels, "frame 1", sight, finder)


def _scan_frame(frame: NDArray[Any], place: str, sight: Sight, finder: TextFinder) -> None:
    for region in finder.find(to_bytes(frame)):
        letters = [letter for letter in region.text if letter.isalnum()]
        if region.confidence < _SURE or len(letters) < _LEAST:
            continue
        # What a clinical vocabulary knows is a label of the machine: "120 kV", "supine".
        rest = len(letters) - sum(letter.isalnum() for letter in clean_text(region.text))
        if rest >= _LEAST:
            digits = any(letter.isdigit() for letter in letters)
            sight.add("pixels", place, letters_in(region.text) or frozenset("R" if digits else "A"))


def _frames(pixels: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    colour = int(dataset.get("SamplesPerPixel", 1)) > 1
    return pixels if pixels.ndim == (4 if colour else 3) else pixels[None]
