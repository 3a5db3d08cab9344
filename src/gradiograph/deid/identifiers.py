"""What in a file identifies: its own names, numbers and addresses, and text that has the form of one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradiograph.deid.values import STRING_VRS, TEXT_VRS, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom.dataelem import DataElement

_PART = 4  # letters; shorter parts of names stand in ordinary words
_NUMBER, _WORDS = 6, 8  # characters; a shorter identifier stands in ordinary numbers and words
_RECORDS = re.compile(r"\b(?=(?:\w*\d){5})[\w-]{6,}\b")  # five digits and more
_SEPARATORS = re.compile(r"[\s^=,;/\\]+")
_FORMS = re.compile(
    r"""
    \b(?:19|20)\d\d[-./]?(?:0[1-9]|1[0-2])[-./]?(?:0[1-9]|[12]\d|3[01])\b        # dates, year first
    | \b(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|1[0-2])[-./](?:19|20)?\d\d\b     # day first
    | \b(?:0?[1-9]|1[0-2])[-/](?:0?[1-9]|[12]\d|3[01])[-/](?:19|20)?\d\d\b       # month first
    | \b\d{1,2}[ -]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ ,-]*\d{2,4}\b
    | [\w.+-]+@[\w-]+\.[\w.-]+                                                   # mail
    | (?:https?://|www\.)\S+
    | \b(?:\d{1,3}\.){3}\d{1,3}\b                                                # addresses of machines
    | (?:\+\d{1,3}[ .-]?)?\(?\d{2,4}\)?[ .-]\d{3,4}[ .-]\d{3,5}\b                # telephones
    | \b\d{7,}\b                                                                 # numbers of records
    | \b[a-z]{1,4}\d{6,}\b                                                       # the same with a prefix
    | \w+\^\w+                                                                   # names as DICOM writes them
    | \b(?:dr|mr|mrs|ms|prof)\.?[ ]+[^\W\d_]{2,}
    | \b(?:patient|name|mrn|dob|born|ssn|id|tel|phone|accession)\b[ ]*[:#=]
    """,
    re.VERBOSE | re.IGNORECASE,
)


def looks_identifying(text: str) -> bool:
    """Whether a text has something of the form of a date, number, address or name.

    >>> looks_identifying("seen on 1961-04-30"), looks_identifying("T2 TSE axial 3 mm")
    (True, False)
    """
    return _FORMS.search(text) is not None


@dataclass(frozen=True)
class Removed:
    """An element that is not kept.

    Attributes:
        element: Decoded.
        described: Whether it is a description, or private: its words may be ordinary, its numbers are not.
    """

    element: DataElement
    described: bool


@dataclass(frozen=True)
class Identifiers:
    """What identifies the patient and others in one file, to be searched for in what is kept of it.

    Attributes:
        known: Lower-case values and parts of values.
    """

    known: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, removed: Iterable[Removed]) -> Identifiers:
        """The identifiers in elements that are removed or replaced."""
        return cls(frozenset(part for one in removed for part in _parts(one)))

    def within(self, text: str) -> bool:
        """Whether one of them stands in a text."""
        lowered = text.lower()
        return any(part in lowered for part in self.known)

    def within_bytes(self, data: bytes, least: int = 1) -> bool:
        """Whether one of them stands in bytes, in any of the encodings of text that DICOM and Windows use.

        Args:
            data: Of any meaning.
            least: Shorter ones are not searched: in many bytes they stand by chance.
        """
        lowered = data.lower()
        return any(coded in lowered for part in self.known if len(part) >= least for coded in _encodings(part))


def _parts(removed: Removed) -> Iterable[str]:
    element = removed.element
    if element.VR not in STRING_VRS or element.VR in ("DA", "TM", "DT", "UI", "AS"):
        return
    for value in values_of(element):
        text = str(value).strip().lower()
        if element.VR == "PN":
            yield from (part for part in _SEPARATORS.split(text) if len(part) >= _PART)
        elif element.VR in TEXT_VRS:
            yield from _RECORDS.findall(text)
            if not removed.described and _is_one(text):
                yield text


def _is_one(text: str) -> bool:
    """Whether it is one identifier, as of a patient, an order, a place or a telephone."""
    least = _NUMBER if any(letter.isdigit() for letter in text) else _WORDS
    return least <= len(text) <= 64


def _encodings(part: str) -> Iterable[bytes]:
    for encoding in ("utf-8", "latin-1", "utf-16-le"):
        try:
            yield part.encode(encoding)
        except UnicodeEncodeError:
            continue
