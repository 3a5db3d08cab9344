"""Residual identifiers in the names of files and folders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradiograph.deid.residue.patterns import letters_in

if TYPE_CHECKING:
    from gradiograph.deid.residue.finding import Sight

_SUFFIX = re.compile(r"(\.nii)?\.\w{1,5}$")
_KEYED = re.compile(r"[A-Z2-7]{16}|[0-9a-f]{16,64}|[\d.]{20,64}")
_COUNTER = re.compile(r"0\d+")
_NAME = re.compile(r"(?<![^\W\d])[A-Z][a-zäöüé]{3,}[_,^ -]+[A-Z][a-zäöüé]{3,}(?![^\W\d_])")


def scan_name(name: str, sight: Sight) -> None:
    """Look at a path inside of the scanned folder.

    Numbers that begin with a zero are taken for counters, long keyed ones for pseudonyms.

    Args:
        name: With forward slashes.
        sight: Where findings go.
    """
    for part in name.split("/"):
        stem = _SUFFIX.sub("", part)
        words = [word for word in re.split(r"[_\s]+", stem) if not (_KEYED.fullmatch(word) or _COUNTER.fullmatch(word))]
        found = letters_in(" ".join(words))
        if _NAME.search(stem):
            found |= {"A"}
        sight.add("file name", "", found)
