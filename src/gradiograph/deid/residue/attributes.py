"""DICOM attributes that hold an identifier by what they are, whatever their text looks like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_for_tag

from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.residue.words import has_unknown_words

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement

_BY_KEYWORD: tuple[tuple[str, str], ...] = (
    ("D", r".*Telephone.*|.*TelecomInformation"),
    ("B", r".*Address|Institution(Name|alDepartmentName)|.*(Country|Region)OfResidence|.*SiteName|.*PatientLocation"),
    ("H", r"PatientID|OtherPatientIDs|MedicalRecordLocator|.*SubjectID|IssuerOfPatientID|PatientPrimaryLanguage.*"),
    ("I", r"PatientInsurance.*"),
    ("M", r".*Serial(Number)?|.*DeviceID|(Detector|Plate|Cassette|Gantry|Generator|Grid|XRaySource)ID|StationName"
          r"|UniqueDeviceIdentifier|ManufacturerDeviceIdentifier|DeviceAlternateIdentifier|PerformedStationName|.*AETitle"),
    ("R", r"AccessionNumber|StudyID|.*OrderNumber.*|RequestedProcedureID|ScheduledProcedureStepID|AdmissionID"
          r"|PerformedProcedureStepID|ServiceEpisodeID|BarcodeValue|ContainerIdentifier|SpecimenIdentifier"),
)  # fmt: skip
_COMPILED = tuple((letter, re.compile(form)) for letter, form in _BY_KEYWORD)
_DESCRIPTIVE = re.compile(
    r".*(Description|Comments?|Label|Name|History|Reason.*|Instructions|Text|Notes?|Narrative|Meaning)"
)
_NOTHING = frozenset({
    "", "none", "unknown", "removed", "anonymous", "anonymized", "anonymised", "deidentified", "de-identified", "n/a",
    "na", "private", "redacted", "urn:removed", "0", "000y", "000000", "00010101", "19000101", "19000101000000",
})  # fmt: skip
_PSEUDONYM = re.compile(r"[A-Z2-7]{16}|[0-9a-f]{16,64}")
_FILE_META = 0x0002  # which names programs, not people
_OLDEST = 89  # years


def letters_of(element: DataElement, *, declared: bool, moved: bool) -> frozenset[str]:
    """The letters that a standard element falls under; none where it holds nothing of a patient.

    Args:
        element: Not a sequence.
        declared: The data set says that identity was removed; a keyed pseudonym is then taken for one.
        moved: The data set says that its dates were moved (113107).
    """
    values = element.value if isinstance(element.value, (list, tuple)) or element.VM > 1 else [element.value]
    texts = [text for value in values for text in [str(value).strip()] if _says_something(text, declared=declared)]
    found: set[str] = set()
    for text in texts:
        found |= _letters(element, text, moved=moved)
    return frozenset(found)


def _letters(element: DataElement, text: str, *, moved: bool) -> frozenset[str]:
    representation = element.VR
    if representation in _CERTAIN:
        return _CERTAIN[representation](text, moved)
    if representation not in _TEXTUAL:
        return frozenset()
    by_keyword = _letter_of_keyword(keyword_for_tag(element.tag))
    if by_keyword:
        return frozenset(by_keyword)
    found = letters_in(text)
    described = element.tag.group > _FILE_META and _DESCRIPTIVE.fullmatch(keyword_for_tag(element.tag) or "")
    free = representation in ("ST", "LT", "UT") or described
    return found or (frozenset("A") if free and has_unknown_words(text) else frozenset())


def _of_age(text: str, _: bool) -> frozenset[str]:
    old = text.endswith("Y") and text[:-1].isdigit() and int(text[:-1]) > _OLDEST
    return frozenset("C") if old else frozenset()


_TEXTUAL = ("LO", "SH", "ST", "LT", "UT", "UC", "AE", "CS", "UR")
_CERTAIN = {
    "PN": lambda text, _: frozenset("A") if has_unknown_words(text) else frozenset(),
    "DA": lambda _, moved: frozenset() if moved else frozenset("C"),
    "DT": lambda _, moved: frozenset() if moved else frozenset("C"),
    "AS": _of_age,
}


def _letter_of_keyword(keyword: str) -> str:
    return next((letter for letter, form in _COMPILED if form.fullmatch(keyword)), "")


def _says_something(text: str, *, declared: bool) -> bool:
    return text.casefold() not in _NOTHING and not (declared and _PSEUDONYM.fullmatch(text))
