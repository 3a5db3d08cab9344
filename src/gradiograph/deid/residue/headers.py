"""Residual identifiers in a DICOM header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.deid.residue.attributes import letters_of
from gradiograph.deid.residue.patterns import letters_in

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from gradiograph.deid.residue.finding import Sight

_MOVED, _SAFE_PRIVATE = "113107", "113111"
_PREFIX = b"\0" * 128
_DEEPEST = 40
_PIXELS = 0x7FE0
_OWN_CODES = 0x00120064
_DRAWN = (0x3000, 0x4000)  # of an overlay: its bits and its comments
_IMAGES_OF_CHESTS = ("CR", "DX", "DR", "RG")
_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "SINUS", "ORBIT", "JAW")


def scan_header(dataset: Dataset, sight: Sight) -> None:
    """Look at all elements, those in sequences, and what stands before and between them.

    Args:
        dataset: As read; its pixels are not looked at.
        sight: Where findings go.
    """
    sight.profile = _codes(dataset)
    sight.declared = str(dataset.get("PatientIdentityRemoved", "")).upper() == "YES"
    part = str(dataset.get("BodyPartExamined", "")).upper()
    modality = str(dataset.get("Modality", ""))
    sight.film = modality in _IMAGES_OF_CHESTS and part in ("", "CHEST", "THORAX", "LUNG")
    sight.head = modality in ("CT", "MR", "PT") and any(word in part for word in _HEADS)
    meta = getattr(dataset, "file_meta", None)
    for level in (meta, dataset):
        if level is not None:
            _scan_level(level, sight, "", 0)
    preamble = getattr(dataset, "preamble", None) or _PREFIX
    if preamble != _PREFIX and preamble[:4] not in (b"II*\0", b"MM\0*"):
        sight.add("bytes", "preamble", frozenset("R"))
    if not sight.declared:
        sight.add("header", "(0020,000D)", frozenset("R") if dataset.get("StudyInstanceUID") else frozenset())
    elif _MOVED in sight.profile:
        sight.unchecked.add("whether dates that are said to be moved (113107) were moved")


def _scan_level(dataset: Dataset, sight: Sight, path: str, depth: int) -> None:
    if depth > _DEEPEST:
        sight.unchecked.add(f"sequences nested deeper than {_DEEPEST}")
        return
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # damaged values raise whatever they like
            sight.unchecked.add("elements that cannot be decoded")
            continue
        place = f"{path}{tag}"
        if element.tag == _OWN_CODES:
            continue  # what the de-identification says of itself
        if element.VR == "SQ":
            for number, item in enumerate(element.value or ()):
                _scan_level(item, sight, f"{place}[{number}]", depth + 1)
        elif element.tag.group != _PIXELS:
            _scan_element(element, sight, place)


def _scan_element(element: DataElement, sight: Sight, place: str) -> None:
    if element.tag.is_private:
        _scan_private(element.value, sight, place, is_creator=element.tag.is_private_creator)
    elif not _is_overlay(element.tag):
        sight.add("header", place, letters_of(element, declared=sight.declared, moved=_MOVED in sight.profile))
    elif element.tag.element in _DRAWN:
        sight.add("header", place, frozenset("R"))


def _scan_private(value: object, sight: Sight, place: str, *, is_creator: bool) -> None:
    """What a private element means is not known, so its being there is a finding, unless the profile kept it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    found = letters_in(text.replace("\0", ""))
    if _SAFE_PRIVATE in sight.profile or is_creator:
        sight.add("private element", place, found)
    elif text.strip("\0 "):
        sight.add("private element", place, found or frozenset("R"))


def _is_overlay(tag: int) -> bool:
    return 0x5000 <= tag >> 16 <= 0x50FF or 0x6000 <= tag >> 16 <= 0x60FF


def _codes(dataset: Dataset) -> frozenset[str]:
    items = dataset.get("DeidentificationMethodCodeSequence") or ()
    return frozenset(str(item.get("CodeValue", "")) for item in items)
