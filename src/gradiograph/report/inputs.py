"""What the log says of the identifiers in an audit's inputs, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = {
    "data": "The audited data",
    "public": "The attacker's public films",
    "gallery": "The gallery",
    "data.index": "The index of the audited data",
    "captured.originals": "The originals of the captured update",
}
_ACTIONS = {
    "X": "removed",
    "Z": "emptied",
    "D": "replaced by a dummy",
    "U": "UIDs replaced",
    "C": "cleaned",
    "K": "kept by an option",
    "private": "private, removed",
    "unlisted": "not in the table, kept",
    "unknown": "unknown, removed",
    "malformed": "malformed, removed",
    "swept": "not in the table, but removed as it told of the patient",
}


@dataclass(frozen=True, kw_only=True)
class Input:
    """One scanned folder.

    Attributes:
        title: Whose role it has.
        sentence: What was found, in one sentence.
        findings: Letter, what it stands for, in what, in how many files.
        evidence: What a de-identification by Gradiograph says of itself.
        not_checked: What nobody looked at.
        notices: What holds even where nothing was found.
    """

    title: str
    sentence: str
    findings: tuple[tuple[str, str, str, int], ...]
    evidence: tuple[str, ...]
    not_checked: tuple[str, ...]
    notices: tuple[str, ...]


def inputs(header: Mapping[str, Any]) -> tuple[Input, ...]:
    """The scanned folders of a run; none for computed data and for runs of before the scan."""
    return tuple(_input(entry) for entry in header.get("inputs") or ())


def _input(entry: Mapping[str, Any]) -> Input:
    files, identified = entry["files"], entry["identified"]
    if identified:
        sentence = (
            f"Not de-identified: identifiers in {identified} of {files} files. The audit file allows it "
            "(allow_identified = true)."
        )
    else:
        sentence = f"De-identified as far as the scan sees: it found no identifier in {files} files."
    declared = f" {entry['declared']} files say that their patient's identity was removed." if entry["declared"] else ""
    told = entry["deidentification"] or {}
    return Input(
        title=f"{_ROLES.get(entry['role'], entry['role'])} ({entry['component']})",
        sentence=sentence + declared,
        findings=tuple((letter, meaning, where, count) for letter, meaning, where, count in entry["findings"]),
        evidence=tuple(_evidence(told)) if told else (),
        not_checked=(
            *(f"{reason} ({count} files)" for reason, count in entry["not_checked"].items()),
            *map(str, told.get("not_checked", ())),
        ),
        notices=tuple(entry["notices"]),
    )


def _evidence(told: Mapping[str, Any]) -> list[str]:
    """What was done, from the log of `gradiograph deidentify`."""
    codes = "; ".join(f"{code} {meaning}" for code, meaning in told["codes"])
    counts = "; ".join(f"{_ACTIONS.get(name, name)} {count:,}" for name, count in told["actions"].items())
    lines = [
        f"Profile: {told['profile']}: {codes}.",
        f"{told['deidentified']} of {told['files']} files were de-identified, the others refused.",
        f"Elements: {counts}.",
    ]
    return lines + [f"Warning for {count} files: {text}." for text, count in told["warnings"].items()]
