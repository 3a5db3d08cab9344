"""Names of files and folders of volumes: what names a person becomes a pseudonym, the layout stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gradiograph.deid.pseudonyms import Pseudonyms

_LAYOUT: Final = frozenset(
    (
        *("imagesTr", "labelsTr", "imagesTs", "labelsTs", "images", "labels", "train", "val", "test", "training"),
        *("validation", "anat", "func", "dwi", "fmap", "perf", "pet", "ct", "mr"),
        *("dataset", "dataset_description"),
    )
)
_SUFFIXES: Final = frozenset(
    (
        *("T1w", "T2w", "FLAIR", "PDw", "T2starw", "inplaneT1", "inplaneT2", "angio", "bold", "sbref", "dwi", "asl"),
        *("m0scan", "pet", "ct", "magnitude", "magnitude1", "magnitude2", "phasediff", "phase1", "phase2", "epi"),
        *("mask", "dseg", "probseg"),
    )
)
_ENTITY = re.compile(r"(sub|ses|task|acq|ce|rec|dir|space|desc|run|echo|part|label)-(.+)")
_COUNTED = frozenset({"run", "echo"})
_ENDINGS: Final = (".nii.gz", ".nii", ".json", ".bval", ".bvec", ".dcm")
_CHANNEL = re.compile(r"(.+)(_\d{4})")
_LETTERS = 8


def new_name(path: str, pseudonyms: Pseudonyms) -> str:
    """The path under which a volume, or what lies beside it, belongs in the output.

    The same name gets the same pseudonym everywhere, so that an image and its mask still find each other. Of BIDS the
    entities stay and their values change; of nnU-Net the number of the channel stays.

    Args:
        path: Within the input folder, with `/`.
        pseudonyms: Under the site's key.
    """
    *folders, name = [part for part in path.split("/") if part not in ("", ".", "..")]
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    stem = name[: len(name) - len(ending)]
    return "/".join([*(_part(folder, pseudonyms) for folder in folders), _part(stem, pseudonyms) + ending])


def _part(name: str, pseudonyms: Pseudonyms) -> str:
    if name in _LAYOUT:
        return name
    if _ENTITY.match(name):
        return "_".join(_entity(part, pseudonyms) for part in name.split("_"))
    found = _CHANNEL.fullmatch(name)
    stem, channel = found.groups() if found else (name, "")
    return pseudonyms.name("path", stem)[:_LETTERS] + channel


def _entity(part: str, pseudonyms: Pseudonyms) -> str:
    if part in _SUFFIXES:
        return part
    found = _ENTITY.fullmatch(part)
    if found is None:
        return pseudonyms.name("path", part)[:_LETTERS]
    key, value = found.groups()
    kept = key in _COUNTED and value.isdecimal() and len(value) <= 2
    return f"{key}-{value if kept else pseudonyms.name('path', value)[:_LETTERS]}"
