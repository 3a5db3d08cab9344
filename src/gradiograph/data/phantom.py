"""The built-in phantom: chest films that are computed, so that an audit needs no patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from gradiograph.core.errors import BadSetting
from gradiograph.core.records import Dataset, Record, Split
from gradiograph.core.registry import register
from gradiograph.core.seeds import numpy_stream
from gradiograph.data.radiograph import draw_setup, render, vary_setup
from gradiograph.data.thorax import Thorax, draw_thorax

_CACHE_BYTES = 2**28
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_CLASSES = {"finding": ("NORMAL", "PNEUMONIA"), "age": ("CHILD", "ADULT"), "sex": ("FEMALE", "MALE")}
Share = Annotated[float, Field(ge=0, le=1)]


@register("data", "phantom")
def phantom(
    *,
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64,
    patients: Annotated[int, Field(ge=10)] = 600,
    films_per_patient: Annotated[float, Field(ge=1, le=10)] = 1,
    channels: Literal[1, 3] = 1,
    seed: int = 0,
    bits: Literal[8, 16] = 8,
    fractions: tuple[Share, Share, Share] = (0.7, 0.1, 0.2),
    label: Literal["finding", "age", "sex"] = "finding",
) -> Dataset:
    """Computed frontal chest radiographs, half of the patients with pneumonia: no data, no network, no patient.

    Every film is the projection of an invented thorax: attenuation along the rays, scatter, quantum noise, film curve.
    A patient's anatomy, and a film of it, depend only on the seed and on their own numbers, so that more patients or
    films leave the others as they were; the anatomy is the same at every image size. Films are rendered when read.

    Args:
        image_size: Pixels along a side.
        patients: Number of patients; every second one has pneumonia.
        films_per_patient: Films of each patient; between two whole numbers, the mean.
        channels: 1, or 3 equal ones for networks that want colour.
        seed: Seed of the whole population.
        bits: Grey levels of a film, as an exponent of 2.
        fractions: Shares of the patients in train, val and test, kept within one patient with each finding.
        label: What the classes are: the finding, or what an attacker could infer beside it, the age group (faint on
            these films) or the sex (plain in adults; in children nothing shows it).

    Returns:
        Classes NORMAL and PNEUMONIA, CHILD and ADULT, or FEMALE and MALE; records in the order of the patients.

    Raises:
        BadSetting: the fractions do not add up to 1.

    >>> films = phantom(patients=10, image_size=32)
    >>> films.read([0, 9]).shape, films.classes
    ((2, 1, 32, 32), ('NORMAL', 'PNEUMONIA'))
    """
    if abs(sum(fractions) - 1) > 1e-6:
        msg = (
            f"data 'phantom': fractions = {fractions} add up to {sum(fractions):g}. "
            "The shares of train, val and test must add up to 1."
        )
        raise BadSetting(msg)
    splits = _splits(-(-patients // 2), fractions)
    labels = [_class_of(label, seed, patient) for patient in range(patients)]
    films = [(patient, film) for patient in range(patients) for film in range(_count(seed, patient, films_per_patient))]
    records = tuple(
        Record(index=index, label=labels[patient], patient=f"phantom-{patient:06d}", split=splits[patient // 2])
        for index, (patient, film) in enumerate(films)
    )
    levels = 2**bits - 1

    @lru_cache(maxsize=max(16, 8 * _CACHE_BYTES // (bits * image_size**2)))
    def film_levels(index: int) -> NDArray[np.uint8 | np.uint16]:
        film: NDArray[np.float32] = np.rint(_film(seed, *films[index], image_size) * levels)
        return film.astype(np.uint8) if bits == 8 else film.astype(np.uint16)

    def read(indices: Sequence[int]) -> NDArray[np.float32]:
        images = np.empty((len(indices), channels, image_size, image_size), np.float32)
        for place, index in enumerate(indices):
            images[place] = film_levels(int(index)) / np.float32(levels)
        return images

    return Dataset(
        name="phantom",
        classes=_CLASSES[label],
        records=records,
        image_shape=(channels, image_size, image_size),
        read=read,
        card=(
            f"Computed chest radiographs of {patients} invented patients, seed {seed}. No real patient. "
            f"{len(films)} films, {image_size} x {image_size}, {bits} bits; split by patient."
        ),
    )


def _film(seed: int, patient: int, film: int, size: int) -> NDArray[np.float32]:
    """Film number `film` of a patient, before quantisation."""
    own = numpy_stream(seed, "phantom", patient)
    thorax, setup = _anatomy(own, patient), draw_setup(own)
    rng = numpy_stream(seed, "phantom", patient, "film", film)
    thorax = replace(thorax, breath=rng.normal(0, 0.025), turn=thorax.turn + rng.normal(0, 0.015))
    return render(thorax, vary_setup(setup, rng), rng, size)


def _anatomy(own: Generator, patient: int) -> Thorax:
    return draw_thorax(own, positive=patient % 2 == 1)


def _class_of(label: str, seed: int, patient: int) -> int:
    """The place of a patient's class among those of this label."""
    if label == "finding":
        return patient % 2
    thorax = _anatomy(numpy_stream(seed, "phantom", patient), patient)
    if label == "age":
        return int(thorax.is_adult)
    if thorax.is_adult:
        return int(thorax.breast == 0)
    return int(numpy_stream(seed, "phantom", patient, "sex").integers(2))


def _count(seed: int, patient: int, mean: float) -> int:
    """Films of a patient: the whole part of the mean, and one more with the probability of its fraction."""
    return int(mean + numpy_stream(seed, "phantom", patient, "count").random())


def _splits(patients: int, fractions: tuple[float, float, float]) -> list[Split]:
    """The splits of one class: each patient goes where most is missing, so that later ones change nothing."""
    counts = [0, 0, 0]
    splits: list[Split] = []
    for patient in range(1, patients + 1):
        missing = [fraction * patient - count for fraction, count in zip(fractions, counts, strict=True)]
        # Where two miss as much, the smaller split is served first, so that few patients still fill all.
        place = max(range(3), key=lambda i: (round(missing[i], 9), -fractions[i]))
        counts[place] += 1
        splits.append(_SPLITS[place])
    return splits
