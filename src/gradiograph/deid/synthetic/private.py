"""Private elements that tell of the patient, as vendors write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gradiograph.deid.synthetic.phrases import phrase

if TYPE_CHECKING:
    import numpy as np

    from gradiograph.deid.synthetic.person import Person


def add_private(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    """Add two to five private blocks; one may lack its creator, one may hold a nested sequence.

    Args:
        dataset: Where.
        person: Whom they tell of.
        rng: Which and what.
    """
    blocks = (_texts, _blob, _nested, _orphan, _unknown)
    for place in rng.permutation(len(blocks))[: int(rng.integers(2, 6))]:
        blocks[place](dataset, person, rng)


def _texts(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    block = dataset.private_block(0x0009, "NOBODY PACS 1.0", create=True)
    block.add_new(0x01, "LO", phrase(person, rng, 64))
    block.add_new(0x02, "PN", person.name)
    block.add_new(0x03, "DA", f"{person.born:%Y%m%d}")
    block.add_new(0x04, "DS", "1.25")


def _blob(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    block = dataset.private_block(0x0029, "NOBODY CSA HEADER", create=True)
    filler = rng.bytes(64)
    inside = phrase(person, rng, 200).encode(str(rng.choice(["utf-8", "utf-16-le", "utf-16-be"])))
    block.add_new(0x10, "OB", filler + inside + filler + b"\0" * (len(inside) % 2))


def _nested(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    inner, outer = Dataset(), Dataset()
    inner.PatientName, inner.PatientBirthDate = person.name, f"{person.born:%Y%m%d}"
    inner.add_new(0x00080081, "ST", phrase(person, rng, 200))
    outer.ReferencedPatientSequence = Sequence([inner])
    block = dataset.private_block(0x0019, "NOBODY MR", create=True)
    block.add_new(0x05, "SQ", Sequence([outer]))


def _orphan(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    """An element whose block has no creator: nothing says what it is."""
    dataset.add_new(0x00111001, "LO", phrase(person, rng, 64))


def _unknown(dataset: Dataset, person: Person, rng: np.random.Generator) -> None:
    block = dataset.private_block(0x0099, "NOBODY ARCHIVE", create=True)
    text = phrase(person, rng, 200).encode("utf-8")
    block.add_new(0x01, "UN", text + b" " * (len(text) % 2))
