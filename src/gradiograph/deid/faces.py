"""Scans from which a face can be made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MODALITIES = frozenset({"CT", "MR", "PT"})
_HEAD = re.compile(
    r"head|brain|skull|face|orbit|neuro|sinus|cranium|t1w|t2w|flair|mprage|kopf|hirn|cereb", re.IGNORECASE
)
_TEXTS = ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")


def shows_a_face(source: Dataset) -> bool:
    """Whether a DICOM image is a slice of the head, by what its header says.

    A surface made from such a volume can be matched to photographs, whatever its header says afterwards
    (Schwarz et al. 2019, doi 10.1056/NEJMc1908881).
    """
    try:
        if source.get("Modality") not in _MODALITIES:
            return False
        return any(_HEAD.search(str(source.get(key) or "")) for key in _TEXTS)
    except Exception:  # a damaged value says nothing
        return False


def names_a_head(name: str) -> bool:
    """Whether a file's name is that of a scan of the head, as in BIDS."""
    return _HEAD.search(name) is not None
