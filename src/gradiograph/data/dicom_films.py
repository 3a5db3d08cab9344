"""Single DICOM images, and frames of multi-frame ones, as records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradiograph.core.errors import DataProblem
from gradiograph.core.records import Dataset, Record
from gradiograph.data.dicom_display import Window, has_window, read_film
from gradiograph.data.images import LUMA, crop_and_resize
from gradiograph.data.listing import class_names
from gradiograph.data.refusals import Refused, refusal, require_some
from gradiograph.data.splits import splits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradiograph.data.dicom_listing import DicomListing, Found

CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Films:
    """How images become records; see the settings of `dicom`."""

    image_size: int
    channels: Literal[1, 3]
    window: Window
    one_per_study: bool
    upsample: bool
    verify: bool
    fractions: tuple[float, float, float]
    split_seed: int


def film_dataset(listing: DicomListing, films: Films) -> Dataset:
    """A dataset of the images of a listing.

    Raises:
        DataProblem: no image is left, or splits cannot be made.
    """
    found = _first_of_studies(listing.found) if films.one_per_study else listing.found
    left_out = len(listing.found) - len(found)
    reader = _Reader(listing, films)
    usable: list[tuple[Found, int]] = []
    lines = []
    for one in found:
        why = reader.reason_against(one)
        if why is None:
            usable += [(one, frame) for frame in range(1 if films.one_per_study else one.image.frames)]
        else:
            lines.append(why)
    refused = (*listing.refused, *lines)
    require_some(len(usable), refused, listing.total)
    reader.places = usable
    entries = [one.entry for one, _ in usable]
    classes = class_names(entry.label for entry in entries)
    labels = [classes.index(entry.label) for entry in entries]
    splits = splits_of(entries, labels, films.fractions, films.split_seed)
    return Dataset(
        name="dicom",
        classes=classes,
        records=tuple(
            Record(index=index, label=label, patient=entry.patient, split=split, site=entry.site)
            for index, (entry, label, split) in enumerate(zip(entries, labels, splits, strict=True))
        ),
        image_shape=(films.channels, films.image_size, films.image_size),
        read=reader.read,
        card=_card(usable, films, left_out, len(refused)),
        unit="study" if films.one_per_study else "image",
        refused=refused,
    )


def _card(usable: Sequence[tuple[Found, int]], films: Films, left_out: int, refused: int) -> str:
    files = {one.position: one for one, _ in usable}
    patients = len({one.entry.patient for one in files.values()})
    given = "given by the source" if all(one.entry.split for one in files.values()) else "by patient"
    unit = "study (its first image)" if films.one_per_study else "image or frame"
    parts = [
        f"DICOM files. A record is one {unit} (there are {len(usable)}, of {len(files)} files), the unit of privacy is "
        f"the patient ({patients}). Window: {films.window}. Cropped at the centre, resized to {films.image_size} x "
        f"{films.image_size}. Split {given}.",
    ]
    bare = sum(not has_window(one.image) for one in files.values()) if films.window == "file" else 0
    parts += [f"{bare} files carry no window and show the range of their values."] if bare else []
    parts += [f"{left_out} further images of the same studies were left out."] if left_out else []
    parts += [f"{refused} files were refused."] if refused else []
    return " ".join(parts)


def _first_of_studies(found: Sequence[Found]) -> tuple[Found, ...]:
    """The image of each study with the lowest series and instance number; where tied, the first file."""
    first: dict[tuple[str, str], tuple[float, float, int]] = {}
    for one in found:
        study = (one.entry.patient, one.image.text("StudyInstanceUID") or str(one.position))
        numbers = (_order(one, "SeriesNumber"), _order(one, "InstanceNumber"), one.position)
        first[study] = min(first.get(study, numbers), numbers)
    kept = {numbers[2] for numbers in first.values()}
    return tuple(one for one in found if one.position in kept)


def _order(one: Found, keyword: str) -> float:
    try:
        number = one.image.number(keyword)
    except Refused:
        number = None
    return float("inf") if number is None else number


class _Reader:
    """Reads frames; the last ones, at their final size, stay in memory."""

    def __init__(self, listing: DicomListing, films: Films) -> None:
        self.total, self.films = listing.total, films
        self.found = {one.position: one for one in listing.found}
        self.places: list[tuple[Found, int]] = []
        size = 4 * films.channels * films.image_size**2
        self._film = lru_cache(maxsize=max(1, CACHE_BYTES // size))(self._decoded)

    def reason_against(self, one: Found) -> str | None:
        """The line about a file that cannot be used; None for one that can."""
        films = self.films
        try:
            if min(one.image.rows, one.image.columns) < films.image_size and not films.upsample:
                sides = f"{one.image.columns} x {one.image.rows}"
                msg = f"is {sides} pixels, smaller than image_size = {films.image_size}. "
                raise Refused(msg + "Lower image_size, or set upsample = true")
            for frame in range(one.image.frames if films.verify else 0):
                self._film(one.position, frame)
        except Refused as why:
            return refusal(one.position, self.total, why)
        return None

    def read(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """(n, C, H, W), float32 in [0, 1]."""
        films = self.films
        images = np.empty((len(indices), films.channels, films.image_size, films.image_size), np.float32)
        for row, number in enumerate(indices):
            one, frame = self.places[number]
            try:
                images[row] = self._film(one.position, frame)
            except Refused as why:
                raise DataProblem(refusal(one.position, self.total, why)) from None
        return images

    def _decoded(self, position: int, frame: int) -> NDArray[np.float32]:
        film = read_film(self.found[position].image, frame, self.films.window)
        if film.ndim == 3 and self.films.channels == 1:
            film = film @ LUMA
        planes = [film] if film.ndim == 2 else [film[..., channel] for channel in range(3)]
        small = np.stack([crop_and_resize(plane, self.films.image_size) for plane in planes])
        # Lanczos rings beside edges.
        return np.repeat(small, self.films.channels // len(small), axis=0).clip(0, 1)
