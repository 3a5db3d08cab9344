"""Residual identifiers in JSON sidecars, tables and text files beside the images."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.residue.words import has_unknown_words

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.deid.residue.finding import Sight

_KEYS: tuple[tuple[str, str], ...] = (
    (
        "A",
        r"(patient|full|first|last|family|given|sur|physician|operators?|performed.*|referring.*)_?'?s?_?name|names?",
    ),
    ("B", r".*(address|street|city|zip|postcode|institution_?name).*"),
    ("C", r".*(birth|date_?of|(study|series|acquisition|content)_?date|dob).*"),
    ("D", r".*(phone|mobile)s?(_?number)?"),
    ("F", r".*e-?mail.*"),
    ("G", r"ssn|.*social_?security.*"),
    ("H", r"patient_?id|mrn|medical_?record.*"),
    ("I", r".*insurance.*"),
    ("M", r".*serial_?number"),
    ("R", r"accession(_?number)?|study_?id"),
)
_COMPILED = tuple((letter, re.compile(form)) for letter, form in _KEYS)
_DESCRIPTIVE = re.compile(r".*(description|comments?|notes?|history)", re.IGNORECASE)
_ROWS = 1000


def scan_json(path: Path, sight: Sight) -> None:
    """Look at every entry of a sidecar, however deep."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        sight.unchecked.add("JSON files that cannot be read")
        return
    _scan_entry("", content, sight)


def scan_table(path: Path, sight: Sight) -> None:
    """Look at a CSV or TSV, column by column: what its header says, and the form of its first rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            lines = [line for line, _ in zip(rows, range(_ROWS + 1), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error):
        sight.unchecked.add("tables that cannot be read")
        return
    if len(lines) > _ROWS:
        sight.unchecked.add(f"rows of tables beyond the first {_ROWS:,}")
    for place, cells in enumerate(zip(*lines, strict=False)):
        name, *values = cells
        # A column named patient or patient_id is how records are told apart: pseudonyms as far as anyone can see.
        found = _letter_of_key(name) - {"H"} if any(values) else frozenset()
        for value in values:
            found |= letters_in(value) - {"R"}  # in a table of its own, a number may be a measurement
        sight.add("table", f"column {place + 1}", found)


def _scan_entry(name: str, value: Any, sight: Sight) -> None:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        for key, inner in value.items():
            _scan_entry(str(key), inner, sight)
    elif isinstance(value, list):
        for inner in value:
            _scan_entry(name, inner, sight)
    elif isinstance(value, str) and value.strip():
        found = _letter_of_key(name) or letters_in(value)
        if not found and _DESCRIPTIVE.fullmatch(name) and has_unknown_words(value):
            found = frozenset("A")
        sight.add("sidecar", name, found)


def _letter_of_key(name: str) -> frozenset[str]:
    folded = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).casefold().replace(" ", "_")
    return frozenset(next((letter for letter, form in _COMPILED if form.fullmatch(folded)), ""))
