"""Whether the header actions of Table E.1-1 were done right, and what should have stayed was kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.uid import UID

from gradiograph.deid.scoring.options import allowed
from gradiograph.deid.scoring.reference import action_of

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from gradiograph.deid.scoring.leaks import Finder
    from gradiograph.deid.scoring.tally import Tally

ACTIONS, NESTED, PRIVATE, KEPT = "header action ", "nested header action ", "private element", "clinical element kept"
HEADER = ("header", "nested header", "private")
_FREE = {0x00080005, 0x00280301, 0x00120062, 0x00120063, 0x00120064, 0x00280303}
"""A de-identifier may rewrite these: the character set, the burned-in flag, and what tells of itself."""
_ENCODING = (0x0002, 0x7FE0, *range(0x6000, 0x6020, 2))
"""The file meta information may be written anew, pixels are judged as pixels, overlays say nothing without data."""


@dataclass
class Ledger:
    """Which UID became which, over all files: one for each, and none for two."""

    given: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)

    def agrees(self, original: str, replaced: str) -> bool:
        """Enter a pair; whether it contradicts none before."""
        same = self.given.setdefault(original, replaced) == replaced
        return self.owner.setdefault(replaced, original) == original and same


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Compares originals with outputs.

    Attributes:
        tally: Where the verdicts go.
        finder: Knows the planted values.
        ledger: Knows the UIDs.
    """

    tally: Tally
    finder: Finder
    ledger: Ledger

    def judge(self, original: Dataset, output: Dataset, file: int, patient: int, options: frozenset[str]) -> None:
        """Judge all elements of a data set, those inside of sequences that stay as well.

        Args:
            original: As planted.
            output: De-identified.
            file: The original's place in the key.
            patient: Whose it is.
            options: What the output declares.
        """
        self._level(original, output, (file, patient, options), "")

    def _level(self, original: Dataset, output: Dataset, about: tuple[int, int, frozenset[str]], path: str) -> None:
        for element in original:
            action = action_of(int(element.tag))
            if element.tag.element == 0 or element.tag in _FREE or (action is None and element.tag.group in _ENCODING):
                continue
            place = f"{path}{element.tag}"
            kept: DataElement | None = output.get(element.tag)
            if action is None:
                self._kept(element, kept, about, place)
            else:
                self._acted(action, element, kept, about, place)

    def _kept(
        self, element: DataElement, kept: DataElement | None, about: tuple[int, int, frozenset[str]], place: str
    ) -> None:
        """An element that the table does not list stays as it is, or is searched where something was planted in it."""
        file, patient, _ = about
        if element.VR == "SQ":
            whole = kept is not None and kept.VR == "SQ" and len(kept.value) == len(element.value)
            self.tally.add(KEPT, right=whole, file=file, place=place, note="sequence gone or shorter")
            if kept is not None and whole:
                for number, (before, after) in enumerate(zip(element.value, kept.value, strict=True)):
                    self._level(before, after, about, f"{place}[{number}]")
        elif not self._planted(element, patient):
            right = kept is not None and _text(kept) == _text(element)
            note = "gone" if kept is None else "changed"
            self.tally.add(KEPT, right=right, file=file, place=place, note=note)

    def _acted(
        self,
        action: str,
        element: DataElement,
        kept: DataElement | None,
        about: tuple[int, int, frozenset[str]],
        place: str,
    ) -> None:
        file, patient, options = about
        right = self._is_right(action, element, kept)
        if not right:
            clean = kept is None or not self._planted(kept, patient)
            right = allowed(element, kept, options, clean=clean)
        category = PRIVATE if element.tag.is_private else (NESTED if "[" in place else ACTIONS) + action
        note = f"{action} {element.VR}: {'absent' if kept is None else 'empty' if _is_empty(kept) else 'present'}"
        self.tally.add(category, right=right, file=file, place=place, note=note)

    def _is_right(self, action: str, element: DataElement, kept: DataElement | None) -> bool:
        if kept is None:
            return action.startswith("X")
        if action == "X":
            return False
        if _is_empty(kept):
            return action not in ("D", "U")
        if action == "U":
            replaced = str(kept.value)
            return replaced != element.value and UID(replaced).is_valid and self.ledger.agrees(element.value, replaced)
        return _text(kept) != _text(element)

    def _planted(self, element: DataElement, patient: int) -> bool:
        content = (
            element.value if isinstance(element.value, bytes) else _text(element).encode("utf-8", "surrogateescape")
        )
        return bool(self.finder.search(content, patient))


def _is_empty(element: DataElement) -> bool:
    return element.is_empty or (element.VR == "SQ" and not len(element.value))


def _text(element: DataElement) -> str:
    """A value as text: numbers as numbers, sequences with all that they hold."""
    if element.VR == "SQ":
        return "|".join(f"{inner.tag}={_text(inner)}" for item in element.value for inner in item)
    if element.VR in ("DS", "IS") and not element.is_empty:
        values = element.value if element.VM > 1 else [element.value]
        return "\\".join(f"{float(value):g}" for value in values)
    return "" if element.value is None else str(element.value)
