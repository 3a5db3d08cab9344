"""Planted values in the bytes of an output: an exact search for all of them at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.deid.scoring.values import LENGTH, date_spellings, spellings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradiograph.deid.synthetic import AnswerKey

_MIX, _BITS = np.uint64(0x9E3779B97F4A7C15), np.uint64(64 - 20)


@dataclass(frozen=True)
class Leak:
    """A planted value that is still there: whose, and of which kind. The value itself is in the key."""

    patient: int
    kind: str


class Finder:
    """Searches bytes for every planted value of every patient, and for the dates of one.

    A date could be another patient's shifted one, so dates are searched in their own patient's files.

    Args:
        key: What was planted.
        dates: Whether dates are searched as well; not where the de-identification keeps them.
    """

    def __init__(self, key: AnswerKey, *, dates: bool = True) -> None:
        self._texts: dict[bytes, list[tuple[bytes, Leak]]] = defaultdict(list)
        for number, patient in enumerate(key.patients):
            for kind, value in patient.values.items():
                for text in spellings(value):
                    self._texts[text[:LENGTH]].append((text, Leak(number, kind)))
        prefixes = np.frombuffer(b"".join(self._texts), dtype="<u8")
        self._likely = np.zeros(1 << 20, dtype=bool)
        self._likely[(prefixes * _MIX) >> _BITS] = True
        self._dates = [
            frozenset().union(*map(date_spellings, patient.dates)) if dates else frozenset() for patient in key.patients
        ]

    def search(self, content: bytes, patient: int | None = None) -> frozenset[Leak]:
        """What is in these bytes.

        Args:
            content: Any bytes; letters match in either case.
            patient: Whose dates to search for; None: nobody's.
        """
        folded = content.lower()
        found = {leak for place in self._places(folded) for leak in self._at(folded, place)}
        if patient is not None and any(_holds(folded, text) for text in self._dates[patient]):
            found.add(Leak(patient, "date"))
        return frozenset(found)

    def _places(self, folded: bytes) -> Iterator[int]:
        """Where eight bytes could begin a planted value."""
        for offset in range(min(LENGTH, len(folded) - LENGTH + 1)):
            words = np.frombuffer(folded, dtype="<u8", offset=offset, count=(len(folded) - offset) // LENGTH)
            for place in np.flatnonzero(self._likely[(words * _MIX) >> _BITS]):
                yield offset + LENGTH * int(place)

    def _at(self, folded: bytes, place: int) -> Iterator[Leak]:
        for text, leak in self._texts.get(folded[place : place + LENGTH], ()):
            # A number inside of a longer one, such as a UID, is not that number.
            inside = text.isdigit() and folded[max(0, place - 1) : place].isdigit()
            if folded.startswith(text, place) and not inside:
                yield leak


def _holds(folded: bytes, text: bytes) -> bool:
    place = folded.find(text)
    while place >= 0:
        if not (text.isdigit() and folded[max(0, place - 1) : place].isdigit()):
            return True
        place = folded.find(text, place + 1)
    return False
