"""Table E.1-1 of DICOM PS3.15: what becomes of each attribute, in the Basic Profile and with each option."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from gradiograph.deid.options import BASIC, Option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EDITION = "DICOM PS3.15 2025b"
"""The edition of the standard whose table is used."""

_SOP_ROOT = "1.2.840.10008.5.1.4."
_PRIVATE = "private"
_OPTIONS = {option.code: option for option in Option}
# What each action is good for: 3 stands where a value must be (type 1), 2 where the attribute must (type 2), 1 nowhere.
_STRENGTH = {"X": 1, "Z": 2, "D": 3, "U*": 3}


class Action(Enum):
    """What is done to an attribute; the letters are those of Table E.1-1a."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"
    UID = "U"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A row of the table.

    Attributes:
        name: The attribute's name.
        basic: Its action in the Basic Profile, conditional ones as printed: `X/Z/D`.
        optional: The action that an option puts in its place.
    """

    name: str
    basic: str
    optional: Mapping[Option, Action] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """The Basic Profile with options.

    Attributes:
        options: Those in force.
    """

    options: frozenset[Option] = frozenset()

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """Codes and meanings, the profile's first."""
        return (BASIC, *sorted(option.value for option in self.options))

    def action(self, tag: int, sop_class: str, sequence: str = "") -> Action | None:
        """What becomes of an attribute.

        Args:
            tag: Its tag, (group << 16) | element.
            sop_class: The SOP Class UID of the file: whether a conditional action may remove depends on it.
            sequence: The keyword of the sequence that holds the attribute; empty at the top.

        Returns:
            The action; None where the table does not list the attribute.
        """
        key = _row_of(tag)
        rule = rules().get(key)
        if rule is None:
            return None
        chosen = [action for option, action in rule.optional.items() if option in self.options]
        # A site that retains something has reviewed it; cleaning only asks that nothing identifying be left.
        for action in (Action.KEEP, Action.CLEAN):
            if action in chosen:
                return action
        return _resolve(rule.basic, _iod_type(key, sop_class, sequence))


@cache
def rules() -> Mapping[str, Rule]:
    """The table, by tag (`00100010`; `60xx3000` and `50xxxxxx` for repeating groups; `private`)."""
    lines = _lines("table_e1_1.tsv")
    _, _, _, *codes = next(lines)
    found = {}
    for tag, name, basic, *optional in lines:
        actions = {_OPTIONS[code]: Action(letter) for code, letter in zip(codes, optional, strict=False) if letter}
        found[tag] = Rule(name=name, basic=basic, optional=actions)
    return found


def _row_of(tag: int) -> str:
    group = tag >> 16
    if group % 2:
        # FFFA,FFFA and FFFC,FFFC are even; an odd group is somebody's own.
        return _PRIVATE
    if group & 0xFF00 == 0x5000:
        return "50xxxxxx"
    if group & 0xFF00 == 0x6000:
        return f"60xx{tag & 0xFFFF:04X}"
    return f"{tag:08X}"


def _resolve(basic: str, needed: int) -> Action:
    """The first action of a conditional one that the attribute's type allows, else the strongest."""
    offered = basic.split("/")
    allowed = [letter for letter in offered if _STRENGTH.get(letter, 3) >= needed] or offered[-1:]
    return Action(allowed[0].rstrip("*"))


def _iod_type(key: str, sop_class: str, sequence: str) -> int:
    """How much of the attribute must stay: 3 a value (type 1), 2 the attribute (type 2), 1 nothing (type 3)."""
    types = _types().get((key, sequence))
    if types is None:
        return 3 if sequence else 1
    return types.get(sop_class.replace(_SOP_ROOT, "~", 1), types.get("*", 3))


@cache
def _types() -> Mapping[tuple[str, str], Mapping[str, int]]:
    lines = _lines("iod_types.tsv")
    next(lines)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for tag, sequence, iod_type, classes in lines:
        found.setdefault((tag, sequence), {}).update(dict.fromkeys(classes.split(), 4 - int(iod_type)))
    return found


def _lines(name: str) -> Iterator[list[str]]:
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
