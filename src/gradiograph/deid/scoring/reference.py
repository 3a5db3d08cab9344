"""Table E.1-1 of DICOM PS3.15 as somebody else rendered it: the package dicom-anonymizer."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from gradiograph.core.errors import DataProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

EDITION = "2026c"
_LISTS = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}


@lru_cache(maxsize=1)
def reference_actions() -> Mapping[int, str]:
    """The action of the basic profile by tag.

    Raises:
        DataProblem: the package dicom-anonymizer is not installed.
    """
    return MappingProxyType({(tag[0] << 16) + tag[1]: action for tag, action in _entries() if len(tag) == 2})


def action_of(tag: int) -> str | None:
    """The action for a tag, also of a repeating group (curves, overlays) or a private one; None: not listed."""
    group, element = tag >> 16, tag & 0xFFFF
    if group % 2:
        return "X"
    if 0x5000 <= group <= 0x50FF or (0x6000 <= group <= 0x60FF and element in (0x3000, 0x4000)):
        return "X"
    return reference_actions().get(tag)


def _entries() -> list[tuple[tuple[int, ...], str]]:
    try:
        table = import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}")
    except ImportError:
        msg = (
            f"The score reads Table E.1-1 ({EDITION}) from the package dicom-anonymizer: pip install dicom-anonymizer."
        )
        raise DataProblem(msg) from None
    return [(tag, action) for name, action in _LISTS.items() for tag in getattr(table, name)]
