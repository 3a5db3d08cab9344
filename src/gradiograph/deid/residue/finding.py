"""What a scan finds: where and under which letter, never what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Where = Literal[
    "header", "private element", "file name", "pixels", "text field", "extension", "sidecar", "table", "bytes"
]


@dataclass(frozen=True, order=True)
class Finding:
    """A residual identifier.

    Attributes:
        file: The position of the file in the sorted listing, from 1.
        where: In what.
        place: The DICOM tag, the field, the column; never a value.
        letter: Of Safe Harbor, "A" to "R".
    """

    file: int
    where: Where
    place: str
    letter: str


@dataclass
class Sight:
    """What was seen of one file.

    Attributes:
        file: Its position.
        findings: What was found.
        unchecked: Why something in it was not looked at.
        declared: It says that its patient's identity was removed.
        film: It is a radiograph of the chest, which itself identifies its patient.
        head: It is a head in three dimensions, which may carry a face.
        profile: The codes of PS3.16 CID 7050 that it declares.
    """

    file: int
    findings: set[Finding] = field(default_factory=set)
    unchecked: set[str] = field(default_factory=set)
    declared: bool = False
    film: bool = False
    head: bool = False
    profile: frozenset[str] = frozenset()

    def add(self, where: Where, place: str, letters: frozenset[str]) -> None:
        """Enter a finding for each letter."""
        self.findings |= {Finding(self.file, where, place, letter) for letter in letters}
