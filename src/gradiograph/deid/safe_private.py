"""Private attributes that PS3.15, Table E.3.10-1 lists as safe."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def is_safe(source: Dataset, tag: int) -> bool:
    """Whether a private element is listed, by its group, its creator and the low byte of its element.

    A creator's own element is safe where its block holds one that is.

    Args:
        source: The data set that holds it, and the creator that reserved its block.
        tag: (group << 16) | element, of an odd group.
    """
    group, element = tag >> 16, tag & 0xFFFF
    if element < 0x1000:
        block = [other & 0xFF for other in source.keys() if other >> 16 == group and other >> 8 & 0xFF == element]  # noqa: SIM118
        return 0x10 <= element <= 0xFF and any(
            (group, low, _creator(source, group, element)) in _listed() for low in block
        )
    return (group, element & 0xFF, _creator(source, group, element >> 8)) in _listed()


def _creator(source: Dataset, group: int, block: int) -> str:
    tag = group << 16 | block
    try:
        return str(source[tag].value).strip() if tag in source else ""
    except Exception:  # a damaged value may fail in any of pydicom's converters
        return ""


@cache
def _listed() -> frozenset[tuple[int, int, str]]:
    text = (files(__package__) / "safe_private.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    return frozenset((int(group, 16), int(element, 16), creator) for group, element, creator in rows)
