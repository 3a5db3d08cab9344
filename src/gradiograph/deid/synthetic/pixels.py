"""The pixels of a synthetic image: anatomy, burned-in text, and the encoding of a modality."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.deid.synthetic.anatomy import draw_anatomy
from gradiograph.deid.synthetic.lettering import Burn, Style, burn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from gradiograph.deid.synthetic.anatomy import Modality
    from gradiograph.deid.synthetic.person import Person

BURNED: dict[Modality, float] = {"CR": 0.5, "CT": 0.25, "MR": 0.25, "US": 0.9, "OT": 1.0}
"""The share of images with text in their pixels; the others measure what is blackened without need."""

FRAMES = 3
_TEXTS = ("family", "given", "record", "accession", "phone", "town", "account")


def draw_pixels(
    modality: Modality, person: Person, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[Burn, ...]]:
    """The image as it looks on a screen, and what is burned into it.

    Args:
        modality: What it looks like.
        person: Whose identifiers are burned in.
        rng: Where it comes from.

    Returns:
        (frames, rows, columns) in [0, 255]; the burned texts, marker of the side included.
    """
    image = draw_anatomy(modality, rng)
    burns: list[Burn] = []
    if modality == "CR":
        style = Style(height=18, contrast=100)
        image, burns = _add(image, burns, str(rng.choice(["R", "L"])), style, rng, keep=True)
    if rng.random() < BURNED[modality]:
        for kind in rng.choice([*_TEXTS, "born"], int(rng.integers(1, 4)), replace=False):
            text = f"{person.born:%d.%m.%Y}" if kind == "born" else person.values[str(kind)]
            image, burns = _add(image, burns, text, Style.draw(rng), rng)
    frames = FRAMES if modality == "US" else 1
    shown = tuple(replace(made, frames=tuple(range(frames))) for made in burns)
    stack = np.stack([np.clip(image + shift, 0, 255) for shift in range(frames)])
    return np.round(stack).astype(np.uint8), shown


def _add(
    image: NDArray[np.float64],
    burns: list[Burn],
    text: str,
    style: Style,
    rng: np.random.Generator,
    *,
    keep: bool = False,
) -> tuple[NDArray[np.float64], list[Burn]]:
    made = burn(image, text, style, rng, burns)
    return (image, burns) if made is None else (made[0], [*burns, replace(made[1], keep=keep)])


def store_pixels(dataset: Dataset, shown: NDArray[np.uint8], modality: Modality, rng: np.random.Generator) -> None:
    """Write the image into a data set as its modality does.

    Radiographs: 12 bits, half of them MONOCHROME1. CT and MR: 12 bits. Ultrasound: RGB frames. Else 8 bits.

    Args:
        dataset: Where.
        shown: (frames, rows, columns).
        modality: How.
        rng: The choice of the photometric interpretation.
    """
    frames, dataset.Rows, dataset.Columns = shown.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 12 if modality in ("CR", "CT", "MR") else 8
    stored = shown.astype(np.uint16) * (16 if bits == 12 else 1)
    if modality == "CR" and rng.random() < 0.5:
        dataset.PhotometricInterpretation, stored = "MONOCHROME1", 4095 - stored
    if modality == "US":
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        stored = np.repeat(stored[..., None], 3, axis=-1)
        dataset.NumberOfFrames, dataset.FrameTime = str(frames), "40"
        dataset.FrameIncrementPointer = 0x00181063
    if bits == 12:
        offset = -1024 if modality == "CT" else 0
        dataset.WindowCenter, dataset.WindowWidth = str(2048 + offset), "4096"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (16, 12, 11) if bits == 12 else (8, 8, 7)
    dataset.PixelData = stored.astype(np.uint16 if bits == 12 else np.uint8).tobytes()
    dataset["PixelData"].VR = "OW" if bits == 12 else "OB"
