"""How records are made of volumes, and the reading of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.data.refusals import Refused, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from gradiograph.core.records import Unit
    from gradiograph.data.cuts import Cut, Place
    from gradiograph.data.listing import Entry
    from gradiograph.data.volume_cuts import VolumeLabel
    from gradiograph.data.volumes import Preparation, Volume

CACHE_BYTES = 512 * 2**20
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A volume and what the source says of it; `position` is its place in the sorted listing, from 1."""

    position: int
    entry: Entry
    volume: Volume


@dataclass(frozen=True, kw_only=True)
class VolumePlan:
    """How records are made of cases.

    Attributes:
        preparation: What is done to every volume.
        cut: What a record is cut out as.
        unit: What a record is called.
        channels: 1, or 3 to repeat a single channel.
        structures: The names of the values 1, 2, ... of the masks; empty: their numbers.
        label: "source": the entry's label, one class where no entry has one; "mask": the structure with most of the
            record's mask, or the background; "position": which of the cut's positions it is.
        verify: Read every volume and mask once, so that a damaged one is refused now; its cost is that of reading.
        fractions: Shares of train, val and test.
        split_seed: Seed of that split.
    """

    preparation: Preparation
    cut: Cut
    unit: Unit
    channels: Literal[1, 3] = 1
    structures: tuple[str, ...] = ()
    label: VolumeLabel = "source"
    verify: bool = True
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    split_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A case that can be used: where its records are, and the largest value of its mask, 0 where it was not read."""

    case: Case
    places: Sequence[Place] = field(repr=False)
    largest: int = 0


class VolumeReader:
    """Reads records; the last prepared volumes stay in memory."""

    def __init__(self, examined: Sequence[Examined], plan: VolumePlan) -> None:
        self.examined, self.plan = examined, plan
        self.index = [(number, place) for number, one in enumerate(examined) for place in one.places]
        stored = examined[0].case.volume.channels
        if plan.channels == 3 and stored != 1:
            msg = f"channels = 3 repeats a single channel, but the volumes have {stored}. Leave `channels` out."
            raise BadSetting(msg)
        self.channels = plan.channels if stored == 1 else stored
        largest = max(int(np.prod(plan.preparation.shape(one.case.volume))) for one in examined)
        keep = max(1, CACHE_BYTES // (4 * stored * largest))
        self._image = lru_cache(maxsize=keep)(self._volume)
        self._mask = lru_cache(maxsize=keep)(self._structures)

    def read(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """(n, C, *spatial), float32 in [0, 1]."""
        images = np.empty((len(indices), self.channels, *self.plan.cut.shape), np.float32)
        for number, places in self._in_turn(indices):
            for place, row in places:
                images[row] = self.plan.cut.take(self._image(number), place)
        return images

    def read_masks(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """(n, *spatial), int64."""
        masks = np.empty((len(indices), *self.plan.cut.shape), np.int64)
        for number, places in self._in_turn(indices):
            for place, row in places:
                masks[row] = self.plan.cut.take(self._mask(number), place, mask=True)[0]
        return masks

    def labels(self) -> list[int]:
        """For each record which of the cut's positions it is, or the structure with most of its mask, 0 for none."""
        if self.plan.label == "position":
            return [number for one in self.examined for number in range(len(one.places))]
        found = []
        for start in range(0, len(self.index), 64):
            for mask in self.read_masks(range(len(self.index))[start : start + 64]):
                count = np.bincount(mask[mask > 0].ravel())
                found.append(int(count.argmax()) if count.size else 0)
        return found

    def _in_turn(self, indices: Sequence[int]) -> Iterator[tuple[int, list[tuple[Place, int]]]]:
        """Volume by volume: where its records are, and in which row each is wanted."""
        wanted = sorted((*self.index[number], row) for row, number in enumerate(indices))
        for number, group in groupby(wanted, key=lambda one: one[0]):
            yield number, [(place, row) for _, place, row in group]

    def _volume(self, number: int) -> NDArray[np.float32]:
        return self._or_problem(number, self.plan.preparation.image)

    def _structures(self, number: int) -> NDArray[np.int64]:
        return self._or_problem(number, self.plan.preparation.mask)[None]

    def _or_problem(self, number: int, of: Callable[[Volume], NDArray[T]]) -> NDArray[T]:
        try:
            return of(self.examined[number].case.volume)
        except Refused as why:
            raise DataProblem(refusal(number + 1, len(self.examined), why, "Used volume")) from None
