"""The header of a synthetic image: what must go, in every kind of element, around what must stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_has_tag, keyword_dict
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gradiograph.deid.synthetic.clinical import STORAGE, describe
from gradiograph.deid.synthetic.elements import clock, code, plant, uid
from gradiograph.deid.synthetic.phrases import phrase
from gradiograph.deid.synthetic.private import add_private

if TYPE_CHECKING:
    from collections.abc import Sequence as Listed

    import numpy as np

    from gradiograph.deid.synthetic.anatomy import Modality
    from gradiograph.deid.synthetic.person import Person

SPRINKLED = 45
"""How many elements of Table E.1-1 each image gets beside the usual ones."""

LOWEST = 0x00080000  # below are commands, the file meta information and directories
_FIXED = (0x00020003, 0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00080016, 0x00080201)
_PLACES = (
    "AnatomicRegionSequence",
    "ViewCodeSequence",
    "PerformedProtocolCodeSequence",
    "SharedFunctionalGroupsSequence",
)
_UNLISTED = ("PositionReferenceIndicator", "FilterType", "TransducerData", "SequenceName", "DetectorDescription")


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What the images of one series have in common."""

    person: Person
    modality: Modality
    study: str
    series: str
    frame_of_reference: str
    time: str


def start_visit(person: Person, modality: Modality, rng: np.random.Generator) -> Visit:
    """A series of a patient, in a study of its own."""
    return Visit(
        person=person,
        modality=modality,
        study=uid(rng),
        series=uid(rng),
        frame_of_reference=uid(rng),
        time=clock(rng),
    )


def header(visit: Visit, number: int, spacing: str, listed: Listed[int], rng: np.random.Generator) -> Dataset:
    """All of an image but its pixels.

    Args:
        visit: The series.
        number: The image's number in it.
        spacing: The pixel spacing, unique in the set.
        listed: The tags of Table E.1-1, of which some are planted at the top and inside of sequences.
        rng: The choice.
    """
    dataset, person = Dataset(), visit.person
    if person.character_set:
        dataset.SpecificCharacterSet = list(person.character_set)
    known = [tag for tag in listed if tag > LOWEST and tag not in _FIXED and dictionary_has_tag(tag)]
    for tag in rng.choice(known, SPRINKLED, replace=False):
        plant(dataset, int(tag), person, rng)
    _usual(dataset, visit, number, rng)
    describe(dataset, visit.modality, spacing, rng)
    _nest(dataset, person, known, rng)
    add_private(dataset, person, rng)
    if rng.random() < 0.1:
        keyword = str(rng.choice(_UNLISTED))
        dataset.add_new(keyword_dict[keyword], "LO" if keyword != "FilterType" else "SH", phrase(person, rng, 16))
    if rng.random() < 0.1:
        dataset.AnatomicRegionSequence[0].CodeMeaning = phrase(person, rng, 64)
    if rng.random() < 0.1:
        _overlay(dataset, person, rng)
    return dataset


def _usual(dataset: Dataset, visit: Visit, number: int, rng: np.random.Generator) -> None:
    """What every hospital writes."""
    person = visit.person
    day = f"{person.studied:%Y%m%d}"
    dataset.SOPClassUID, dataset.SOPInstanceUID = STORAGE[visit.modality], uid(rng)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = visit.study, visit.series
    dataset.FrameOfReferenceUID = visit.frame_of_reference
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = visit.time
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = person.name, person.record, person.sex
    dataset.PatientBirthDate = f"{person.born:%Y%m%d}"
    dataset.PatientAge = f"{(person.studied - person.born).days // 365:03d}Y"
    dataset.ReferringPhysicianName = f"{person.physician}^{person.relative}"
    dataset.AccessionNumber, dataset.StudyID = person.accession, person.order
    dataset.InstitutionName, dataset.InstitutionAddress = person.hospital, f"{person.street}, {person.town}"
    dataset.PatientAddress, dataset.PatientTelephoneNumbers = f"{person.street}, {person.town}", person.phone
    dataset.OtherPatientIDs, dataset.DeviceSerialNumber = person.social, person.device
    dataset.OperatorsName, dataset.StationName = person.operator, person.town[:16]
    dataset.StudyDescription, dataset.SeriesDescription = phrase(person, rng, 64), phrase(person, rng, 64)
    dataset.SeriesNumber, dataset.InstanceNumber = "1", str(number)
    dataset.BurnedInAnnotation = "NO"  # which is not to be trusted
    dataset.PatientComments = phrase(person, rng, 400)


def _nest(dataset: Dataset, person: Person, known: Listed[int], rng: np.random.Generator) -> None:
    """Elements of the table inside of sequences that stay, one to four deep; and references that stay consistent."""
    for keyword in rng.choice(_PLACES, 2, replace=False):
        place = str(keyword)
        item = dataset[place][0] if place in dataset else code("Chest, postero-anterior")
        if place not in dataset:
            setattr(dataset, place, Sequence([item]))
        for _ in range(int(rng.integers(0, 3))):
            deeper = code("Chest")
            item.AnatomicRegionModifierSequence = Sequence([deeper])
            item = deeper
        for tag in rng.choice(known, 4, replace=False):
            plant(item, int(tag), person, rng)
    reference = Dataset()
    reference.SeriesInstanceUID = dataset.SeriesInstanceUID
    dataset.ReferencedSeriesSequence = Sequence([reference])


def _overlay(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    """An overlay plane with a comment: groups 6000 to 601E repeat."""
    group = 0x6000 + 2 * int(rng.integers(0, 4))
    for element, representation, value in (
        (0x0010, "US", 16),
        (0x0011, "US", 16),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x3000, "OW", rng.bytes(32)),
        (0x4000, "LT", phrase(person, rng, 100)),
    ):
        dataset.add_new((group << 16) + element, representation, value)
