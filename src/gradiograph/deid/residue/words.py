"""Words that no clinical vocabulary knows: they could be names."""

from __future__ import annotations

import re

from gradiograph.deid.descriptions import vocabulary

_WORD = re.compile(r"[^\W\d_]{4,}")
_HARMLESS = frozenset({
    "dicom", "image", "images", "series", "study", "slice", "scan", "unknown", "removed", "none", "nifti",
    "freesurfer", "nibabel", "mrtrix", "version", "time", "phase", "automatic", "manual", "chamber", "chambers",
    "exposure",
    "control", "mode", "three", "two", "one", "default", "normal", "other",
})  # fmt: skip


def has_unknown_words(text: str) -> bool:
    """Whether a text has a word of four letters or more that the clinical vocabulary does not know.

    >>> has_unknown_words("CT chest axial"), has_unknown_words("CT chest Quistorvald")
    (False, True)
    """
    known = vocabulary()
    return any(word.lower() not in known and word.lower() not in _HARMLESS for word in _WORD.findall(text))
