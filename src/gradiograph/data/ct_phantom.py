"""The built-in CT phantom: slices of the abdomen with the masks of its organs, at sites with scanners of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter

from gradiograph.core.records import Dataset, Record
from gradiograph.core.registry import register
from gradiograph.core.seeds import numpy_stream
from gradiograph.data.abdomen import STRUCTURES, Abdomen, draw_abdomen
from gradiograph.data.splits import split_by_patient
from gradiograph.data.windows import apply_window

_FINE = 3
"""Points a pixel and side at which densities are computed, so that borders are blurred as in a scanner."""
_WINDOW = (40.0, 400.0)
_CACHE = 4096


@register("data", "ct_phantom")
def ct_phantom(
    *,
    image_size: Annotated[int, Field(ge=16, le=512)] = 64,
    patients: Annotated[int, Field(ge=10)] = 120,
    slices: Annotated[int, Field(ge=1, le=64)] = 6,
    sites: Annotated[int, Field(ge=1, le=26)] = 3,
    shift: Annotated[float, Field(ge=0, le=3)] = 1.0,
    channels: Literal[1, 3] = 1,
    seed: int = 0,
    split_by: Literal["patient", "slice"] = "patient",
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
) -> Dataset:
    """Computed axial CT slices of the abdomen: liver, spleen, kidneys, spine, body. No patient, no data, no network.

    Every patient has an anatomy of their own, the same at any image size; every site a scanner with its own noise,
    sharpness and offset. Shown in the window of level 40 and width 400 Hounsfield units.

    Args:
        image_size: Pixels along a side.
        patients: Number of patients, dealt out to the sites in turn.
        slices: Of each patient, evenly from the dome of the liver to the lower poles of the kidneys.
        sites: How many; `utility.partition = "by_site"` makes each a client.
        shift: How far the scanners differ; 0 is one scanner for all.
        channels: 1, or 3 equal ones.
        seed: Seed of the whole population.
        split_by: "slice" takes every slice for a patient of its own, so that a patient's slices are in every split and
            at every site: a mistake that published studies have made, here so that what it does can be measured.
        fractions: Shares of the patients in train, val and test.

    Returns:
        Records with masks; the class is the place of the slice, so that films are compared at one position.

    Raises:
        BadSetting: the fractions are no shares that add up to 1.

    >>> films = ct_phantom(patients=10, image_size=32, slices=2)
    >>> films.read([0]).shape, films.mask_classes[2], films.classes
    ((1, 1, 32, 32), 'liver', ('33 %', '67 %'))
    """
    heights = [(place + 1) / (slices + 1) for place in range(slices)]
    places = [(patient, height) for patient in range(patients) for height in heights]
    names = [f"ct-phantom-{patient:06d}" for patient, _ in places]
    if split_by == "slice":
        names = [f"{name}-{index % slices}" for index, name in enumerate(names)]
    splits = split_by_patient(names, [0] * len(names), fractions, seed)
    records = tuple(
        Record(
            index=index,
            label=index % slices,
            patient=names[index],
            split=splits[index],
            client=patient % sites,
            site=chr(ord("A") + patient % sites),
        )
        for index, (patient, _) in enumerate(places)
    )

    @lru_cache(maxsize=_CACHE)
    def section(index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        patient, height = places[index]
        anatomy = draw_abdomen(numpy_stream(seed, "ct phantom", patient))
        scanner = numpy_stream(seed, "ct phantom", "scanner", patient % sites)
        return _slice(anatomy, height, image_size, scanner, numpy_stream(seed, "ct phantom", patient, height), shift)

    def read(indices: Sequence[int]) -> NDArray[np.float32]:
        films = np.stack([section(int(index))[0] for index in indices]) if len(indices) else np.empty((0, image_size))
        return np.repeat(films.reshape(len(indices), 1, image_size, image_size), channels, axis=1)

    def read_masks(indices: Sequence[int]) -> NDArray[np.int64]:
        return np.array([section(int(index))[1] for index in indices]).reshape(len(indices), image_size, image_size)

    return Dataset(
        name="ct_phantom",
        classes=tuple(f"{100 * height:.0f} %" for height in heights),
        records=records,
        image_shape=(channels, image_size, image_size),
        read=read,
        card=(
            f"Computed CT slices of the abdomen of {patients} invented patients at {sites} sites, seed {seed}. No real "
            f"patient. {slices} slices of each, {image_size} x {image_size}; split by {split_by}."
        ),
        unit="slice",
        read_masks=read_masks,
        mask_classes=STRUCTURES,
    )


def _slice(
    anatomy: Abdomen,
    height: float,
    size: int,
    scanner: np.random.Generator,
    noise: np.random.Generator,
    shift: float,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The film (H, W) in [0, 1] and its mask (H, W), the patient's right on the left."""
    fine = (np.arange(_FINE * size) + 0.5) / (_FINE * size) * 2 - 1
    x, y = np.meshgrid(fine, fine)
    density, mask = anatomy.section(x, y, height)
    offset = scanner.normal(0, 8 * shift)
    blur, level = 0.5 + 0.25 * shift * scanner.random(), 12 + 10 * shift * scanner.random()
    pixels = gaussian_filter(density, _FINE * blur).reshape(size, _FINE, size, _FINE).mean(axis=(1, 3))
    # Filtered noise keeps its strength: reconstructed noise of neighbours goes together.
    grain = gaussian_filter(noise.normal(size=(size, size)), 0.6)
    pixels = pixels + offset + level * grain / grain.std()
    centre = _FINE // 2
    return apply_window(pixels.astype(np.float32), *_WINDOW), mask[centre::_FINE, centre::_FINE]
