"""What a declared option allows beyond the basic profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

CLEAN_DESCRIPTORS, FULL_DATES, MODIFIED_DATES = "113105", "113106", "113107"
UIDS, SAFE_PRIVATE = "113110", "113111"
_KEPT = {
    "113108": frozenset({
        "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "SmokingStatus", "PregnancyStatus",
        "PatientSexNeutered", "Allergies", "PatientState", "PreMedication", "SpecialNeeds",
    }),
    "113109": frozenset({
        "DeviceSerialNumber", "StationName", "DetectorID", "PlateID", "CassetteID", "GantryID", "GeneratorID",
        "DeviceUID", "DeviceDescription", "LongDeviceDescription", "TransducerIdentificationSequence", "XRaySourceID",
    }),
    "113112": frozenset({
        "InstitutionName", "InstitutionAddress", "InstitutionCodeSequence", "InstitutionalDepartmentName",
    }),
}  # fmt: skip
_TEXT = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "SQ")


def declared_options(output: Dataset) -> frozenset[str]:
    """The codes that an output declares in DeidentificationMethodCodeSequence."""
    items = output.get("DeidentificationMethodCodeSequence") or ()
    return frozenset(str(item.get("CodeValue", "")) for item in items)


def allowed(element: DataElement, kept: DataElement | None, options: frozenset[str], *, clean: bool) -> bool:
    """Whether an option allows what the basic profile does not.

    Args:
        element: The original.
        kept: What the output has in its place.
        options: The declared codes.
        clean: No planted value is in `kept`.
    """
    if kept is None:
        return False
    if element.VR in ("DA", "DT", "TM") and options & {FULL_DATES, MODIFIED_DATES}:
        return FULL_DATES in options or element.VR == "TM" or kept.value != element.value
    if element.VR == "UI":
        return UIDS in options
    if element.tag.is_private:
        return SAFE_PRIVATE in options and clean
    if any(code in options and element.keyword in keywords for code, keywords in _KEPT.items()):
        return True
    return CLEAN_DESCRIPTORS in options and element.VR in _TEXT and clean
