"""The DICOM images of a folder, with patient, label and site; files that cannot be used get a line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword

from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.data.dicom_header import DicomImage, read_header
from gradiograph.data.index import Columns, list_index
from gradiograph.data.listing import Entry
from gradiograph.data.refusals import Refused, refusal, require_some

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CLASSES = 100
SCANNER = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName")
_WORDS = ("folder", "none", "", "scanner")
_INDEXES = ("DICOMDIR",)
_IDENTIFYING = ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "AccessionNumber", "StudyID")


@dataclass(frozen=True, kw_only=True)
class Who:
    """Where label, patient and site of an image come from, unless an index tells them.

    Attributes:
        label: "folder": the first folder below the source; "none": one class; else the keyword of an element.
        patient: The keyword of the element with the patient.
        site: "": none; "scanner": manufacturer, model, serial number and station; else the keyword of an element.
        modalities: Those to take; none takes all.
    """

    label: str = "folder"
    patient: str = "PatientID"
    site: str = ""
    modalities: tuple[str, ...] = ()

    @property
    def keywords(self) -> tuple[str, ...]:
        """The elements that are read for this."""
        named = [name for name in (self.label, self.patient, self.site) if name not in _WORDS]
        return (*named, *SCANNER)

    def check(self) -> None:
        """Raise `BadSetting` where a keyword does not exist, or a label would show who the patient is."""
        for name in self.keywords:
            if tag_for_keyword(name) is None:
                msg = f"'{name}' is no keyword of a DICOM element, such as BodyPartExamined or StationName. Mend it."
                raise BadSetting(msg)
        if self.label in _IDENTIFYING or self.label.endswith("UID"):
            msg = f"label = '{self.label}' would make a class of each patient, shown by its name. Take another element."
            raise BadSetting(msg)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One usable file: its place in the sorted listing, from 1, what is said of it, and its header."""

    position: int
    entry: Entry
    image: DicomImage = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DicomListing:
    """The usable files, how many there were, and a line for each of the others."""

    found: tuple[Found, ...]
    total: int
    refused: tuple[str, ...]


def list_dicom(path: Path, index: Path | None, columns: Columns, who: Who) -> DicomListing:
    """The DICOM files below a folder, at any depth, or those that an index lists, sorted by path.

    Hidden files, `__MACOSX`, DICOMDIR files and links to folders are left out; any other file that is no usable image
    is refused with a line.

    Args:
        path: The folder.
        index: A CSV; see `list_index`. Only its column for the file is needed.
        columns: The names of its columns.
        who: What the headers tell where the index does not.

    Raises:
        BadSetting: see `Who.check`.
        DataProblem: the folder or the index cannot be used, no file can, or there are too many classes.
    """
    who.check()
    if not path.is_dir():
        msg = "The folder given as `path` does not exist or is not a folder. Check the setting `path`."
        raise DataProblem(msg)
    entries = _walk(path) if index is None else list_index(path, index, columns, needed=("file",)).entries
    found: list[Found] = []
    refused = []
    instances: dict[str, int] = {}
    for position, entry in enumerate(entries, 1):
        try:
            image = read_header(entry.file, who.keywords)
            _require_modality(image, who)
            told = _told(entry, image, who)
            _require_new(image, instances, position)
        except Refused as why:
            refused.append(refusal(position, len(entries), why))
        else:
            found.append(Found(position=position, entry=told, image=image))
    require_some(len(found), refused, len(entries))
    _require_classes(found, who)
    return DicomListing(found=tuple(found), total=len(entries), refused=tuple(refused))


def _walk(path: Path) -> tuple[Entry, ...]:
    files = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        files += [Path(folder, name) for name in names if not name.startswith((".", *_INDEXES))]
    entries = (
        Entry(place=file.relative_to(path).as_posix(), file=file, label="", patient="", split=None) for file in files
    )
    return tuple(sorted(entries, key=lambda entry: entry.place))


def _told(entry: Entry, image: DicomImage, who: Who) -> Entry:
    patient = entry.patient or image.text(who.patient)
    if not patient:
        msg = f"names no patient ({who.patient} is empty). Give an index that names them, or set `patient`"
        raise Refused(msg)
    return Entry(
        place=entry.place,
        file=entry.file,
        label=entry.label or _label(entry, image, who),
        patient=patient,
        split=entry.split,
        site=entry.site or _site(image, who),
    )


def _label(entry: Entry, image: DicomImage, who: Who) -> str:
    if who.label == "none":
        return "all"
    if who.label != "folder":
        label = image.text(who.label)
        if not label:
            msg = f"has no label ({who.label} is empty). Take another element as `label`, or take the file out"
            raise Refused(msg)
        return label
    folder, slash, _ = entry.place.partition("/")
    if not slash:
        msg = "lies in no class folder. Put it into PATH/CLASS/, give an index, or set `label` to a keyword or 'none'"
        raise Refused(msg)
    return folder


def _site(image: DicomImage, who: Who) -> str:
    if who.site == "scanner":
        return " / ".join(filter(None, (image.text(keyword) for keyword in SCANNER)))
    return image.text(who.site) if who.site else ""


def _require_modality(image: DicomImage, who: Who) -> None:
    if who.modalities and image.text("Modality") not in who.modalities:
        msg = f"is of another modality than {', '.join(who.modalities)}. Take it out, or add it to `modalities`"
        raise Refused(msg)


def _require_new(image: DicomImage, instances: dict[str, int], position: int) -> None:
    instance = image.text("SOPInstanceUID")
    first = instances.setdefault(instance, position) if instance else position
    if first != position:
        msg = f"is a copy of file {first} (the same SOPInstanceUID). Take one of them out"
        raise Refused(msg)


def _require_classes(found: Sequence[Found], who: Who) -> None:
    classes = len({one.entry.label for one in found})
    if classes > MAX_CLASSES:
        msg = (
            f"label = '{who.label}' makes {classes} classes; at most {MAX_CLASSES} are taken. Take another "
            "element, put the files into class folders, or give an index."
        )
        raise DataProblem(msg)
