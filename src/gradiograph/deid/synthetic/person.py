"""An invented patient: everything that could identify one, each value unique."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from gradiograph.deid.synthetic.words import Mint

SCRIPTS = {
    "accented": ("ISO_IR 100",),
    "cyrillic": ("ISO_IR 144",),
    "katakana": ("", "ISO 2022 IR 87"),
    "unicode": ("ISO_IR 192",),
}
"""The character sets of names that are not ASCII."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """One patient and the people around; strings unless said otherwise.

    `native` is the family name in the script of `script`, and equals `family` where that is "latin".
    """

    number: int
    script: str
    sex: str
    family: str
    given: str
    native: str
    relative: str
    physician: str
    operator: str
    street: str
    town: str
    hospital: str
    phone: str
    fax: str
    email: str
    social: str
    record: str
    insurance: str
    account: str
    licence: str
    plate: str
    device: str
    url: str
    address: str
    accession: str
    order: str
    born: date
    studied: date

    @property
    def values(self) -> dict[str, str]:
        """The planted values by kind: what must be found nowhere; not the dates."""
        skipped = {"number", "script", "sex", "born", "studied"}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in skipped}

    @property
    def dates(self) -> tuple[date, ...]:
        """The planted dates: of birth and of the study."""
        return self.born, self.studied

    @property
    def name(self) -> str:
        """The name as DICOM writes it."""
        latin = f"{self.family}^{self.given}"
        return f"{latin}={self.native}^" if self.script == "katakana" else f"{self.native}^{self.given}"

    @property
    def character_set(self) -> tuple[str, ...]:
        """SpecificCharacterSet; empty for ASCII."""
        return SCRIPTS.get(self.script, ())


def invent(number: int, mint: Mint, rng: np.random.Generator) -> Person:
    """Draw a patient.

    Args:
        number: Its place among the patients.
        mint: Where unique words and numbers come from.
        rng: Where everything else comes from.
    """
    script = str(rng.choice(["latin", *SCRIPTS], p=[0.6, 0.1, 0.1, 0.1, 0.1]))
    family = mint.word()
    born = date(1925, 1, 1) + timedelta(days=int(rng.integers(0, 29_000)))
    return Person(
        number=number,
        script=script,
        sex=str(rng.choice(["F", "M", "O"])),
        family=family,
        given=mint.word(),
        native=family if script == "latin" else mint.word({"unicode": "cyrillic"}.get(script, script)),
        relative=mint.word(),
        physician=mint.word(),
        operator=mint.word(),
        street=f"{mint.word()} Street",
        town=mint.word(),
        hospital=mint.word(),
        phone=mint.number("+1-###-###-####"),
        fax=mint.number("+1-###-###-####"),
        email=f"{mint.word().lower()}@{mint.word().lower()}.example",
        social=mint.number("###-##-####"),
        record=mint.number("MR########"),
        insurance=mint.number("HP@#######"),
        account=mint.number("AC########"),
        licence=mint.number("LC@@######"),
        plate=mint.number("@@-@@-####"),
        device=mint.number("SN@########"),
        url=f"https://portal.{mint.word().lower()}.example/{mint.number('p########')}",
        address=mint.number("1##.1##.1##.1##"),
        accession=mint.number("A#########"),
        order=mint.number("RQ########"),
        born=born,
        studied=date(2009, 1, 1) + timedelta(days=int(rng.integers(0, 5_000))),
    )
