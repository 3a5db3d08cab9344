"""Values of DICOM elements: which ones are well-formed, and dummies in their place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import dictionary_VM, dictionary_VR

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement

TEXT_VRS: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
"""VRs of free text."""

STRING_VRS: Final = TEXT_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "PN", "TM", "UI", "UR"}
"""VRs whose values are characters."""

BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""VRs whose values are bytes that the dictionary does not explain."""

_WORD = "REMOVED"
DUMMIES: Final[dict[str, Any]] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), _WORD),
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV"), 0),
    **dict.fromkeys(("FL", "FD"), 0.0),
    **dict.fromkeys(BULK_VRS, b"\0\0"),
    "AS": "000Y",
    "AT": 0,
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "TM": "000000",
    "UR": "urn:removed",
}
"""A value that says nothing, for each VR that has one."""

# Laxer than PS3.5 where scanners are: long DS, lower case in CS. What must not pass is a value that ran over its end.
_PATTERNS: Final = {
    "AE": re.compile(r"[ -\[\]-~]{0,16}"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Za-z0-9 _./+-]{0,16}"),
    "DA": re.compile(r"\d{4}\.?\d{2}\.?\d{2}"),
    "DS": re.compile(r"[ 0-9eE+.-]{1,32}"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"),
    "IS": re.compile(r"[ 0-9+-]{1,14}"),
    "TM": re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?"),
    "UI": re.compile(r"[0-9.]{1,64}"),
    "UR": re.compile(r"[!-~]*"),
}
_LONGEST: Final = {"LO": 64, "SH": 64, "ST": 1024, "LT": 10240, "PN": 324, "UC": 10240, "UT": 1 << 20}
_CONTROL = re.compile(r"[^\t\n\f\r -~\x80-\U0010ffff]|[\x80-\x9f�]")


def values_of(element: DataElement) -> list[Any]:
    """The element's values, none where it is empty."""
    value = element.value
    if value is None or value in ("", b""):
        return []
    return list(value) if element.VM > 1 else [value]


def is_well_formed(element: DataElement) -> bool:
    """Whether an element of the data dictionary is what the dictionary says: its VR, how many values, their form.

    A damaged length makes an element swallow those after it: such a value is not well-formed.
    """
    if element.VR not in re.split(" or ", dictionary_VR(element.tag)) and element.VR != "UN":
        return False
    if element.VR in BULK_VRS:
        return isinstance(element.value, bytes | None)
    values = values_of(element)
    return len(values) <= _most(dictionary_VM(element.tag)) and all(_fits(element.VR, value) for value in values)


def dummy(element: DataElement) -> Any:  # noqa: ANN401
    """A value for a VR that is neither a sequence nor a UID, as many times as the original had values."""
    value = DUMMIES[element.VR]
    return [value] * element.VM if element.VM > 1 and element.VR not in BULK_VRS else value


def _most(multiplicity: str) -> float:
    last = multiplicity.rpartition("-")[2]
    return float("inf") if "n" in last else int(last)


def _fits(vr: str, value: object) -> bool:
    if vr not in STRING_VRS:
        return not isinstance(value, bytes | str)
    text = str(getattr(value, "original_string", value))
    pattern = _PATTERNS.get(vr)
    if pattern is not None:
        return not text or pattern.fullmatch(text.rstrip(" \0")) is not None
    return len(text) <= _LONGEST[vr] and not _CONTROL.search(text)
