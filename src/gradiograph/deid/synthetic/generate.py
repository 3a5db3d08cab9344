"""A set of synthetic medical files full of identifiers, and its answer key."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from gradiograph.core.errors import BadSetting
from gradiograph.core.seeds import numpy_stream
from gradiograph.deid.synthetic.headers import header, start_visit
from gradiograph.deid.synthetic.key import IMAGES, AnswerKey, Patient, PlantedFile
from gradiograph.deid.synthetic.person import invent
from gradiograph.deid.synthetic.phrases import phrase
from gradiograph.deid.synthetic.pixels import draw_pixels, store_pixels
from gradiograph.deid.synthetic.volumes import sidecar_bytes, volume
from gradiograph.deid.synthetic.words import Mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from gradiograph.deid.synthetic.headers import Visit
    from gradiograph.deid.synthetic.lettering import Burn
    from gradiograph.deid.synthetic.person import Person

SOURCES = {"CR": 0.32, "CT": 0.2, "MR": 0.16, "US": 0.14, "OT": 0.06, "NIfTI": 0.12}
"""The share of series of each kind."""

SYNTAXES = {
    ExplicitVRLittleEndian: 0.5,
    ImplicitVRLittleEndian: 0.2,
    DeflatedExplicitVRLittleEndian: 0.1,
    RLELossless: 0.07,
    JPEGLSLossless: 0.07,
    JPEG2000Lossless: 0.06,
}
"""The share of DICOM files of each transfer syntax; all lossless, so that every pixel can be compared."""

MEDIA_EVERY = 20
"""Every so many patients, one comes as an interchange medium, with a DICOMDIR."""

_OTHER_KINDS = ("EncapsulatedDocument", "RTPlanLabel")  # with one of them, a directory takes an image for no image


@dataclass
class _Set:
    """What is being written."""

    folder: Path
    listed: Sequence[int]
    files: list[PlantedFile] = field(default_factory=list)
    spacings: Iterator[int] = field(default_factory=itertools.count)

    def spacing(self) -> str:
        """A pixel spacing that no other file has, in millimetres; exact to 5 decimals."""
        return f"{0.3 + next(self.spacings) * 1e-5:.5f}"


def generate(
    folder: Path,
    *,
    patients: int,
    files: int,
    seed: int,
    listed: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AnswerKey:
    """Write `folder/images` and `folder/key.json`.

    Args:
        folder: New or empty.
        patients: How many.
        files: How many, of all kinds; a sidecar and a DICOMDIR count. At least one for each patient.
        seed: The same seed makes the same set.
        listed: The tags of Table E.1-1, from `scoring.reference`.
        progress: Called with the files written and all files.

    Raises:
        BadSetting: the folder is not empty, or the numbers do not fit each other.
    """
    if folder.exists() and any(folder.iterdir()):
        msg = "The folder for the synthetic set exists and is not empty; give a new one."
        raise BadSetting(msg)
    if not 1 <= patients <= files:
        msg = f"patients = {patients} and files = {files}: each patient needs at least one file. Raise --files."
        raise BadSetting(msg)
    made, mint, people = _Set(folder / IMAGES, listed), Mint(numpy_stream(seed, "values")), []
    for number in range(patients):
        rng = numpy_stream(seed, "patient", number)
        person = invent(number, mint, rng)
        people.append(Patient(person.values, person.dates))
        until = files * (number + 1) // patients
        if number % MEDIA_EVERY == MEDIA_EVERY - 1:
            _write_medium(made, person, until, rng)
        while len(made.files) < until:
            _write_series(made, person, until, rng)
        progress(len(made.files), files)
    key = AnswerKey(seed=seed, patients=tuple(people), files=tuple(made.files))
    key.write(folder / "key.json")
    return key


def _write_series(made: _Set, person: Person, until: int, rng: np.random.Generator) -> None:
    source = str(rng.choice(list(SOURCES), p=list(SOURCES.values())))
    if source == "NIfTI" and until - len(made.files) < 2:
        source = "CR"
    place = made.folder / f"{person.family}_{person.given}" / f"{person.studied:%Y%m%d}_{source}_{len(made.files)}"
    place.mkdir(parents=True)
    if source == "NIfTI":
        _write_volume(made, person, place, rng)
        return
    visit = start_visit(person, source, rng)  # type: ignore[arg-type]
    count = int(rng.integers(1, 5)) if source in ("CT", "MR") else 1
    for number in range(1, min(count, until - len(made.files)) + 1):
        suffix = str(rng.choice([".dcm", "", ".DCM"]))
        dataset, burns, spacing = _image(made, visit, number, rng)
        _write_dicom(place / f"{person.record}_{number:04d}{suffix}", dataset, person, rng)
        _enter(made, place / f"{person.record}_{number:04d}{suffix}", "dicom", person, spacing, burns)


def _image(made: _Set, visit: Visit, number: int, rng: np.random.Generator) -> tuple[Dataset, tuple[Burn, ...], str]:
    spacing = made.spacing()
    dataset = header(visit, number, spacing, made.listed, rng)
    shown, burns = draw_pixels(visit.modality, visit.person, rng)
    store_pixels(dataset, shown, visit.modality, rng)
    return dataset, burns, spacing


def _write_dicom(path: Path, dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    syntaxes = list(SYNTAXES)
    syntax = syntaxes[int(rng.choice(len(syntaxes), p=list(SYNTAXES.values())))]
    meta = FileMetaDataset()
    meta.SourceApplicationEntityTitle = person.town.upper()[:16]
    if rng.random() < 0.1:
        meta.PrivateInformationCreatorUID = UID("1.2.826.0.1.3680043.8.498.1")
        meta.PrivateInformation = person.record.encode()
    dataset.file_meta = meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    if syntax.is_encapsulated:
        dataset.compress(
            syntax, encoding_plugin="" if syntax != RLELossless else "pydicom", generate_instance_uid=False
        )
    if rng.random() < 0.1:
        dataset.preamble = phrase(person, rng, 100).encode("utf-8")[:128].ljust(128, b"\0")
    dataset.save_as(path, enforce_file_format=True)


def _write_volume(made: _Set, person: Person, place: Path, rng: np.random.Generator) -> None:
    spacing = made.spacing()
    packed, sidecar = volume(person, spacing, rng)
    stem = f"sub-{person.record}_{person.family}"
    (place / f"{stem}.nii.gz").write_bytes(packed)
    _enter(made, place / f"{stem}.nii.gz", "nifti", person, spacing)
    (place / f"{stem}.json").write_bytes(sidecar_bytes(sidecar, rng))
    _enter(made, place / f"{stem}.json", "sidecar", person, spacing)


def _write_medium(made: _Set, person: Person, until: int, rng: np.random.Generator) -> None:
    """A DICOMDIR with the images that it lists, as a CD from a hospital has them."""
    medium, content = FileSet(), {}
    for _ in range(until - len(made.files) - 1):
        visit = start_visit(person, "CR", rng)
        dataset, burns, spacing = _image(made, visit, 1, rng)
        for keyword in _OTHER_KINDS:
            dataset.pop(keyword, None)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        medium.add(dataset)
        content[str(dataset.SOPInstanceUID)] = spacing, burns
    place = made.folder / f"CD_{person.record}"
    medium.write(place)
    for path in sorted(path for path in place.rglob("*") if path.is_file() and path.name != "DICOMDIR"):
        written = dcmread(path, stop_before_pixels=True).SOPInstanceUID
        _enter(made, path, "dicom", person, *content[str(written)])
    _enter(made, place / "DICOMDIR", "dicomdir", person)
    medium._stage["t"].cleanup()  # pydicom leaves its staging folder to the garbage collector, which warns of it


def _enter(made: _Set, path: Path, kind: Any, person: Person, spacing: str = "", burns: tuple[Burn, ...] = ()) -> None:  # noqa: ANN401
    made.files.append(
        PlantedFile(
            name=path.relative_to(made.folder).as_posix(),
            kind=kind,
            patient=person.number,
            spacing=spacing,
            burns=burns,
        )
    )
