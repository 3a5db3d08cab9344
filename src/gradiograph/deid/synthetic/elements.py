"""A planted value for an element, whatever its value representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from gradiograph.deid.synthetic.phrases import phrase

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from gradiograph.deid.synthetic.person import Person

_LIMITS = {"LO": 64, "SH": 16, "ST": 200, "LT": 400, "UT": 1000, "UC": 200}


def plant(dataset: Dataset, tag: int, person: Person, rng: np.random.Generator) -> None:
    """Set a standard element to something that tells of a patient.

    Args:
        dataset: Where.
        tag: What; its value representation is the standard's.
        person: Whom it tells of.
        rng: What it says.
    """
    representation = dictionary_VR(tag)
    dataset.add_new(tag, representation, value_for(representation, person, rng))


def value_for(representation: str, person: Person, rng: np.random.Generator) -> Any:  # noqa: ANN401 - any VR
    """A value of this representation that tells of a patient; texts, names and dates hold a planted value."""
    if representation in _LIMITS:
        return phrase(person, rng, _LIMITS[representation])
    return _DRAWN.get(representation, _bytes)(person, rng)


def code(meaning: str, value: str = "T-D3000", scheme: str = "SRT") -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def uid(rng: np.random.Generator) -> str:
    """A UID of the invented hospital."""
    return str(generate_uid(prefix="1.2.826.0.1.3680043.8.498.", entropy_srcs=[str(rng.integers(2**62))]))


def clock(rng: np.random.Generator) -> str:
    """A time of day, DICOM's TM."""
    hour, minute, second, part = (int(rng.integers(0, top)) for top in (24, 60, 60, 1_000_000))
    return f"{hour:02d}{minute:02d}{second:02d}.{part:06d}"


def _name(person: Person, rng: np.random.Generator) -> str:
    return str(rng.choice([person.name, f"{person.physician}^{person.given}", f"{person.operator}^{person.relative}"]))


def _date(person: Person, rng: np.random.Generator) -> str:
    return f"{person.dates[int(rng.integers(0, 2))]:%Y%m%d}"


def _moment(person: Person, rng: np.random.Generator) -> str:
    return _date(person, rng) + clock(rng)


def _age(person: Person, rng: np.random.Generator) -> str:
    return f"{(person.studied - person.born).days // 365:03d}Y"


def _bytes(person: Person, rng: np.random.Generator) -> bytes:
    text = phrase(person, rng, 200).encode(str(rng.choice(["utf-8", "utf-16-le", "utf-16-be"])))
    return text + b"\0" * (len(text) % 2)


def _sequence(person: Person, rng: np.random.Generator) -> Sequence:
    item = code(phrase(person, rng, 64), person.order, "99LOCAL")
    item.PatientName = person.name
    item.StudyInstanceUID = uid(rng)
    return Sequence([item])


_DRAWN: dict[str, Callable[[Person, np.random.Generator], Any]] = {
    "PN": _name,
    "DA": _date,
    "DT": _moment,
    "TM": lambda _, rng: clock(rng),
    "AS": _age,
    "CS": lambda person, rng: str(rng.choice([person.family.upper(), person.record])),
    "AE": lambda person, _: person.town.upper()[:16],
    "UI": lambda _, rng: uid(rng),
    "UR": lambda person, _: person.url,
    "DS": lambda _, rng: f"{rng.uniform(1, 200):.2f}",
    "IS": lambda _, rng: str(rng.integers(1, 200)),
    "US": lambda _, rng: int(rng.integers(1, 200)),
    "FL": lambda _, rng: float(rng.integers(1, 200)),
    "FD": lambda _, rng: float(rng.integers(1, 200)),
    "SQ": _sequence,
}
