"""Every byte string that would give a planted value away, whatever the encoding, the case and the format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from gradiograph.deid.synthetic import DATE_FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

ENCODINGS = (
    "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1", "cp1251", "koi8-r", "iso8859-5", "cp1252",
    "shift_jis", "euc_jp", "iso2022_jp", "gb18030", "euc_kr",
)  # fmt: skip
"""All text encodings of DICOM's character sets that can hold a planted value, and those of Windows."""

_ESCAPE = re.compile(rb"\x1b[$(][A-Z]")
LENGTH = 8


def spellings(value: str) -> frozenset[bytes]:
    r"""The byte strings of a value, in lower-case ASCII: its parts of 8 characters, encoded, escaped, digits alone.

    Args:
        value: At least 8 characters.

    >>> sorted(spellings("Abcdefgh, x"))[0]
    b'\x00\x00\x00a\x00\x00\x00b\x00\x00\x00c\x00\x00\x00d\x00\x00\x00e\x00\x00\x00f\x00\x00\x00g\x00\x00\x00h'
    """
    found = set()
    for part in _parts(value):
        for written in {part, part.upper(), part.lower()}:
            found |= set(_encoded(written))
            found.add(json.dumps(written)[1:-1].encode())
    return frozenset(text.lower() for text in found if len(text) >= LENGTH)


def date_spellings(day: date) -> frozenset[bytes]:
    """The byte strings of a date, in lower-case ASCII: each way of writing it, in 8-bit and 16-bit encodings."""
    written = {day.strftime(form) for form in DATE_FORMATS}
    return frozenset(text.encode(name).lower() for text in written for name in ENCODINGS[:3])


def _parts(value: str) -> set[str]:
    """The words of a value that are long enough to be nobody else's; the whole where there is none, and its digits."""
    words = {word for word in re.split(r"\W+", value) if len(word) >= LENGTH}
    digits = re.sub(r"\D", "", value)
    letters = any(symbol.isalpha() for symbol in value)
    return (words or {value}) | ({digits} if not letters and len(digits) >= LENGTH else set())


def _encoded(text: str) -> Iterator[bytes]:
    for name in ENCODINGS:
        try:
            yield _ESCAPE.sub(b"", text.encode(name))
        except UnicodeEncodeError:
            continue
