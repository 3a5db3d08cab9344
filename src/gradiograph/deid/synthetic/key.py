"""The answer key of a synthetic set: what was planted where."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from gradiograph.core.errors import DataProblem
from gradiograph.deid.synthetic.lettering import Burn

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
IMAGES = "images"


@dataclass(frozen=True)
class Patient:
    """The planted values of one patient by kind, each at least 8 characters, and the planted dates."""

    values: dict[str, str]
    dates: tuple[date, ...]


@dataclass(frozen=True, kw_only=True)
class PlantedFile:
    """One file of the set.

    Attributes:
        name: Its path inside of the folder of images.
        kind: What it is.
        patient: The patient's place in the key.
        spacing: The pixel spacing, by which the score finds it again; empty for files that are judged by leaks alone.
        burns: What is burned into its pixels.
    """

    name: str
    kind: Literal["dicom", "nifti", "sidecar", "dicomdir"]
    patient: int
    spacing: str = ""
    burns: tuple[Burn, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnswerKey:
    """All of a set. Which header actions are required is not in it: the score derives that from Table E.1-1."""

    seed: int
    patients: tuple[Patient, ...]
    files: tuple[PlantedFile, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        content = {
            "version": VERSION,
            "seed": self.seed,
            "patients": [
                {"values": patient.values, "dates": [day.isoformat() for day in patient.dates]}
                for patient in self.patients
            ],
            "files": [asdict(file) for file in self.files],
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> AnswerKey:
        """Read what `write` wrote.

        Raises:
            DataProblem: the file is not an answer key of this version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise ValueError
            patients = tuple(_patient(entry) for entry in content["patients"])
            return cls(seed=content["seed"], patients=patients, files=tuple(map(_file, content["files"])))
        except (OSError, ValueError, KeyError, TypeError):
            msg = (
                f"The answer key cannot be read as version {VERSION}. Give the file key.json "
                "that `gradiograph phi DIR` wrote."
            )
            raise DataProblem(msg) from None


def _patient(entry: dict[str, Any]) -> Patient:
    return Patient(dict(entry["values"]), tuple(date.fromisoformat(day) for day in entry["dates"]))


def _file(entry: dict[str, Any]) -> PlantedFile:
    return PlantedFile(**entry | {"burns": tuple(Burn.from_json(made) for made in entry["burns"])})
