"""A data set as it comes: read element by element with suspicion, and what in it identifies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.datadict import keyword_for_tag

from gradiograph.deid.identifiers import Removed
from gradiograph.deid.options import Option
from gradiograph.deid.profile import Action, Profile, rules
from gradiograph.deid.values import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

DEEPEST: Final = 40
"""How deep sequences may be nested; real ones reach ten."""

PIXELS: Final = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""The tags of pixel data and its offsets."""

# What these rows hold may stand elsewhere rightly: a word of anatomy, or the model of the scanner.
_DESCRIBING = frozenset({Option.CLEAN_DESCRIPTORS, Option.DEVICE})
_PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE, _STUDY = 0x00100020, 0x00100010, 0x00100030, 0x0020000D


def readable(source: Dataset, tag: int) -> DataElement | None:
    """The element, decoded; None where its bytes cannot be."""
    try:
        element = source[tag]
        values_of(element)
    except RecursionError:
        raise
    except Exception:  # a damaged value may fail in any of pydicom's converters
        return None
    return element


def text_of(source: Dataset, tag: int) -> str:
    """The element's value as text; empty where it is absent or damaged."""
    element = readable(source, tag) if tag in source else None
    return "" if element is None or element.value is None else str(element.value).strip()


def patient_of(source: Dataset) -> str:
    """What tells the patient from others in this file: the id, else name and birth date, else the study."""
    name = text_of(source, _PATIENT_NAME)
    chosen: tuple[Callable[[], str], ...] = (
        lambda: text_of(source, _PATIENT_ID),
        lambda: name and f"{name}\0{text_of(source, _BIRTH_DATE)}",
        lambda: text_of(source, _STUDY),
    )
    return next(filter(None, (choice() for choice in chosen)), "")


def removed(source: Dataset, profile: Profile, sop_class: str, sequence: str = "", depth: int = 0) -> Iterator[Removed]:
    """The elements that a profile does not keep as they are, at any depth, and every name of a person."""
    if depth > DEEPEST:
        return
    for tag in sorted(source.keys()):
        element = None if tag in PIXELS else readable(source, tag)
        if element is None:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from removed(item, profile, sop_class, keyword_for_tag(element.tag), depth + 1)
            continue
        private = tag >> 16 & 1
        action = Action.REMOVE if private else profile.action(tag, sop_class, sequence)
        if action not in (None, Action.KEEP) or element.VR == "PN":
            rule = rules().get(f"{tag:08X}")
            yield Removed(element, described=bool(private or (rule and not _DESCRIBING.isdisjoint(rule.optional))))
