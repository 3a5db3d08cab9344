"""The patient behind a file name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradiograph.core.errors import BadSetting, DataProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

KERMANY_PATTERN = r"^(person\d+(?=_(?:bacteria|virus)_\d+$)|(?:NORMAL2-)?IM-\d+(?=(?:-\d+)+$))"
"""Kermany et al. 2018 as on Kaggle: `person7_virus_12`, `IM-0115-0001`, `NORMAL2-IM-1427-0001`.

Bacteria and virus films of one number are taken as one patient: to join two people is harmless for a split, to
part one person is a leak.
"""


def patients_from_names(names: Sequence[str], pattern: str | None = None) -> list[str]:
    """The patient of each file name.

    Args:
        names: File names without suffix, in the sorted order of the images.
        pattern: A regular expression with one group, searched in each name; the group is the patient. None is
            `KERMANY_PATTERN`.

    Returns:
        One patient a name.

    Raises:
        BadSetting: the pattern is no regular expression or does not have one group.
        DataProblem: a name does not match. No patient is ever made up.

    >>> patients_from_names(["person1946_bacteria_4874", "NORMAL2-IM-1427-0001", "IM-0115-0001"])
    ['person1946', 'NORMAL2-IM-1427', 'IM-0115']
    """
    expression = _compile(KERMANY_PATTERN if pattern is None else pattern)
    matches = [expression.search(name) for name in names]
    # A group may match the empty string or take no part at all: neither names a patient.
    found = [match.group(1) or "" if match else "" for match in matches]
    missed = [position for position, patient in enumerate(found, 1) if not patient]
    if missed:
        which = "the built-in pattern for the Kermany chest X-rays" if pattern is None else "`patient_pattern`"
        msg = (
            f"{len(missed)} of {len(names)} file names (the first is image {missed[0]} in sorted order) do not match "
            f"{which}, so the patient is unknown. Set `patient_pattern` to a regular expression whose one group is the "
            "patient, such as '^([^_]+)_', or '(.*)' where every film is of another patient; or give a CSV as `index`."
        )
        raise DataProblem(msg)
    return found


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        msg = f"`patient_pattern` is not a regular expression: {error}. Mend it; it needs exactly one group (...)."
        raise BadSetting(msg) from None
    if expression.groups != 1:
        msg = (
            f"`patient_pattern` has {expression.groups} groups; it needs exactly 1, which is the patient. "
            "Write groups that are not the patient as (?:...)."
        )
        raise BadSetting(msg)
    return expression
