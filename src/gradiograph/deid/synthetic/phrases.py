"""Free text that names the patient in passing, and the ways in which a date is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    import numpy as np

    from gradiograph.deid.synthetic.person import Person

DATE_FORMATS = (
    "%Y%m%d",
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y/%m/%d",
    "%d %B %Y",
    "%B %d, %Y",
    "%d %b %Y",
)
"""How a planted date is written anywhere; the first is DICOM's."""

_PHRASES = (
    "{given} {family}",
    "Follow-up of {given} {family}, MRN {record}",
    "{family}, {given} ({record}) born {born}",
    "Call {relative} at {phone}",
    "{relative} lives at {street}, {town}",
    "Sent by Dr. {physician}, fax {fax}",
    "Reported to {email} by {operator}",
    "Insured {insurance}, account {account}",
    "SSN {social}; licence {licence}",
    "Plate {plate}; see {url}",
    "Order {order} of {accession}",
    "Seen on {studied} at {hospital} with {device}",
    "from host {address}, {hospital}",
)


def phrase(person: Person, rng: np.random.Generator, limit: int) -> str:
    """A phrase of at most so many characters; the bare record number where none fits.

    Args:
        person: Whom it names.
        rng: Which phrase, which way to write a date.
        limit: The longest text that the element takes.
    """
    dates = {"born": write_date(person.born, rng), "studied": write_date(person.studied, rng)}
    made = [text.format(**person.values, **dates) for text in _PHRASES]
    fitting = [text for text in made if len(text) <= limit]
    return str(rng.choice(fitting)) if fitting else person.record


def write_date(day: date, rng: np.random.Generator) -> str:
    """A date, written in one of the ways."""
    return day.strftime(str(rng.choice(DATE_FORMATS)))
