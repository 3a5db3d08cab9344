"""What a folder of volumes holds: NIfTI, the JSON beside it, and the numbers of diffusion gradients."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from gradiograph.core.errors import DataProblem
from gradiograph.deid.faces import names_a_head
from gradiograph.deid.names import new_name
from gradiograph.deid.nifti import deidentify_nifti
from gradiograph.deid.one import FACE, Made
from gradiograph.deid.profile import Profile
from gradiograph.deid.pseudonyms import Pseudonyms
from gradiograph.deid.sidecar import deidentify_sidecar

_VOLUMES: Final = (".nii", ".nii.gz")
_NUMBERS: Final = (".bval", ".bvec")
_SIDECAR: Final = ".json"
_PLAIN = re.compile(rb"[\s0-9eE+.,-]*")


def is_of_a_volume(name: str) -> bool:
    """Whether a file is a volume or lies beside one, by the ending of its name."""
    return name.lower().endswith((*_VOLUMES, *_NUMBERS, _SIDECAR))


def deidentify_volume(content: bytes, name: str, profile: Profile, pseudonyms: Pseudonyms) -> Made:
    """De-identify a NIfTI volume, a sidecar, or a table of gradients.

    Args:
        content: The whole file.
        name: Its path within the input folder, which says what it is.
        profile: The profile and its options.
        pseudonyms: Under the site's key.

    Raises:
        DataProblem: the file is refused, and why.
    """
    lowered = name.lower()
    if lowered.endswith(_VOLUMES):
        volume = deidentify_nifti(content, profile, pseudonyms)
        head = volume.may_show_a_face or names_a_head(name)
        return Made(content=volume.content, counts=volume.counts, warnings=(FACE,) if head else ())
    if lowered.endswith(_SIDECAR):
        made, counts = deidentify_sidecar(content, profile, lambda path: new_name(path, pseudonyms))
        return Made(content=made, counts=counts)
    if not _PLAIN.fullmatch(content):
        msg = "The table of gradients holds more than numbers."
        raise DataProblem(msg)
    return Made(content=content, counts=Counter(K=1))
