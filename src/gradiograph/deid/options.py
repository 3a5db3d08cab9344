"""The options of the Basic Application Level Confidentiality Profile, and which of them go together."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gradiograph.core.errors import BadSetting, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

BASIC = ("113100", "Basic Application Confidentiality Profile")
"""Code and meaning of the profile that every option builds on (PS3.16, CID 7050)."""


class Option(Enum):
    """An option of PS3.15, Annex E.3: its code in DCM and its meaning there."""

    CLEAN_PIXELS = "113101", "Clean Pixel Data Option"
    CLEAN_FACES = "113102", "Clean Recognizable Visual Features Option"
    CLEAN_GRAPHICS = "113103", "Clean Graphics Option"
    CLEAN_STRUCTURE = "113104", "Clean Structured Content Option"
    CLEAN_DESCRIPTORS = "113105", "Clean Descriptors Option"
    FULL_DATES = "113106", "Retain Longitudinal Temporal Information Full Dates Option"
    MODIFIED_DATES = "113107", "Retain Longitudinal Temporal Information Modified Dates Option"
    PATIENT = "113108", "Retain Patient Characteristics Option"
    DEVICE = "113109", "Retain Device Identity Option"
    UIDS = "113110", "Retain UIDs Option"
    SAFE_PRIVATE = "113111", "Retain Safe Private Option"
    INSTITUTION = "113112", "Retain Institution Identity Option"

    @property
    def code(self) -> str:
        """Its code value in the scheme DCM."""
        return self.value[0]

    @property
    def meaning(self) -> str:
        """Its code meaning."""
        return self.value[1]


def option_of(name: str) -> Option:
    """The option of this name, such as `clean-descriptors`, or of this code.

    Raises:
        BadSetting: there is none.

    >>> option_of("clean-descriptors").code, option_of("113110").name
    ('113105', 'UIDS')
    """
    named = {option.name.lower().replace("_", "-"): option for option in Option} | {opt.code: opt for opt in Option}
    if name not in named:
        msg = f"There is no option {name!r}. {nearest(name, named)}"
        raise BadSetting(msg)
    return named[name]


def check_options(options: Iterable[Option]) -> frozenset[Option]:
    """The options as a set.

    Raises:
        BadSetting: two of them contradict each other.

    >>> sorted(option.code for option in check_options([Option.UIDS, Option.DEVICE]))
    ['113109', '113110']
    """
    chosen = frozenset(options)
    if Option.CLEAN_FACES in chosen:
        msg = (
            "The option clean-faces (113102) is not built: volumes of the head keep their faces, and the log says so. "
            "Leave it out, and deface them with a tool for that."
        )
        raise BadSetting(msg)
    if {Option.FULL_DATES, Option.MODIFIED_DATES} <= chosen:
        msg = "Dates cannot be retained both full (113106) and modified (113107); give one of the two."
        raise BadSetting(msg)
    return chosen
