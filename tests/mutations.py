"""Damaged DICOM files for fuzz tests: every second one damaged in its structure, the others in any byte.

    from mutations import mutate, seeds

    for number in range(1000):
        damaged = mutate(seeds()[number % len(seeds())], number, seed=7)

The same number and seed give the same bytes.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from gradiograph.core.seeds import numpy_stream

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_VRS = sorted(
    _LONG | {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"FD", b"IS", b"LO", b"PN", b"SH", b"TM", b"UI", b"US"}
)
_UNDEFINED = 0xFFFFFFFF
_DELIMITERS = (b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0")
_LARGEST = 400_000
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


@cache
def seeds() -> tuple[bytes, ...]:
    """The whole files that are damaged: the test files of pydicom up to 400 kB, in sorted order."""
    files = sorted(path for path in SAMPLES.rglob("*") if path.is_file() and path.stat().st_size < _LARGEST)
    contents = (path.read_bytes() for path in files)
    return tuple(content for content in contents if content[128:132] == b"DICM")


class Element(NamedTuple):
    """Where an explicit, little-endian element stands: its tag, its VR, its length and its value."""

    tag: int
    length_at: int
    length_size: int
    value: int
    length: int


def elements(data: bytes) -> list[Element]:
    """The elements from byte 132 on, as far as they can be walked as explicit little-endian; items are entered."""
    found = []
    place = 132
    while place + 8 <= len(data):
        tag, vr = data[place : place + 4], data[place + 4 : place + 6]
        if tag in _DELIMITERS:
            place += 8
            continue
        long = vr in _LONG
        if not vr.isalpha() or (long and place + 12 > len(data)):
            break
        at, size = (place + 8, 4) if long else (place + 6, 2)
        (length,) = struct.unpack_from("<I" if long else "<H", data, at)
        found.append(Element(place, at, size, at + size, length))
        place = at + size if vr == b"SQ" or length == _UNDEFINED else at + size + length
    return found


def mutate(data: bytes, number: int, seed: int) -> bytes:
    """One to four changes of a file, in its structure where the number is odd, in any bytes where it is even."""
    rng = numpy_stream(seed, "mutation", number)
    for _ in range(rng.integers(1, 5)):
        places = elements(data) if number % 2 else []
        if places:
            change = _STRUCTURAL[rng.integers(len(_STRUCTURAL))]
            data = change(data, places[rng.integers(len(places))], rng)
        else:
            data = _BLIND[rng.integers(len(_BLIND))](data, rng)
    return data


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _change_vr(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    return _put(data, element.tag + 4, _VRS[rng.integers(len(_VRS))])


def _change_length(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    most = 256**element.length_size - 1
    chosen = (0, 1, most, most - 1, most // 2, element.length + 1, element.length + 2, max(element.length - 2, 0))
    length = (*chosen, len(data), int(rng.integers(most)))[rng.integers(len(chosen) + 2)]
    return _put(data, element.length_at, min(length, most).to_bytes(element.length_size, "little"))


def _change_value(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    extreme = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 60_000)[rng.integers(6)].to_bytes(2, "little")
    texts = (b"", b"-1", b"1e999", b"nan", b"\\" * 64, b"9" * 64, b"\xff" * 16, b"1.2.840.10008.1.2.1.99")
    return _put(data, element.value, extreme if rng.random() < 0.5 else texts[rng.integers(len(texts))])


def _change_tag(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    tags = (0x7FE00010, 0x52009230, 0x00280010, 0x00020010, 0x00080005, 0xFFFCFFFC, 0x00091001, 0x00081140)
    tag = tags[rng.integers(len(tags))]
    return _put(data, element.tag, struct.pack("<HH", tag >> 16, tag & 0xFFFF))


def _insert_delimiter(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    length = (0, _UNDEFINED, 8, 0x7FFFFFFF)[rng.integers(4)]
    return data[: element.tag] + _DELIMITERS[rng.integers(3)] + struct.pack("<I", length) + data[element.tag :]


def _insert_nested(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    """Sequences in sequences, as if one held itself; nothing closes them."""
    one = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + _DELIMITERS[0] + b"\xff\xff\xff\xff"
    return data[: element.tag] + one * int((1, 10, 300, 3000)[rng.integers(4)]) + data[element.tag :]


def _repeat(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    end = min(element.value + min(element.length, 4096), len(data))
    return data[:end] + data[element.tag : end] * int(rng.integers(1, 4)) + data[end:]


def _drop(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    return data[: element.tag] + data[element.value + (element.length if rng.random() < 0.5 else 0) :]


def _cut_at(data: bytes, element: Element, rng: np.random.Generator) -> bytes:
    return data[: element.tag + int(rng.integers(0, 13))]


def _flip_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data) or 1, size=int(rng.integers(1, 33))) if data else ():
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _splice(data: bytes, rng: np.random.Generator) -> bytes:
    first, second = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:first] + data[second:]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return _put(data, at, rng.bytes(int(rng.integers(1, 65))))


_STRUCTURAL = (
    _change_vr,
    _change_length,
    _change_value,
    _change_tag,
    _insert_delimiter,
    _insert_nested,
    _repeat,
    _drop,
    _cut_at,
)
_BLIND = (_flip_bytes, _cut, _splice, _noise)
