"""The log of a de-identification: one line a file, no original value in any, and their sum as evidence."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gradiograph.core.errors import LogProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

JOURNAL: Final = "deidentification.jsonl"
"""Name of the log in the output folder."""

EVIDENCE: Final = "deidentification.json"
"""Name of its sum."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of one file.

    Attributes:
        file: Its keyed pseudonym; whoever has the key and the path can find the entry.
        number: Its place in the sorted listing of the input, from 1.
        output: Where it lies in the output folder; empty where it was refused.
        reason: Why it was refused.
        counts: How many elements, by what was done to them.
        pixels: Frames, frames read, regions, markers, share blackened.
        warnings: What nothing was done about.
    """

    file: str
    number: int
    output: str = ""
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    pixels: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def line(self) -> str:
        """The entry as a line of JSON, without what is empty."""
        return json.dumps({key: value for key, value in asdict(self).items() if value}, sort_keys=True) + "\n"


def head(profile: str, codes: Iterable[tuple[str, str]], key_check: str) -> str:
    """The first line of a log: under what it is written.

    Args:
        profile: The edition of the table.
        codes: Of the profile and its options.
        key_check: A pseudonym that only the same key gives.
    """
    return json.dumps({"version": 1, "profile": profile, "codes": [code for code, _ in codes], "key": key_check}) + "\n"


def read_journal(path: Path, first: str) -> list[Entry]:
    """The entries of a log, without a last line that an interruption cut off.

    Args:
        path: The log.
        first: Its first line, as `head` makes it for the run that goes on.

    Raises:
        LogProblem: it was written under another profile, options or key, or a line before the last is damaged.
    """
    written, *lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else [first.rstrip()]
    if written != first.rstrip():
        msg = (
            "The output was begun with another profile, other options or another key; continue with the same, or "
            "de-identify into a new folder."
        )
        raise LogProblem(msg)
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entries.append(Entry(**entry | {"warnings": tuple(entry.get("warnings", ()))}))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            msg = f"Line {number + 1} of the output's {JOURNAL} is damaged; de-identify into a new folder."
            raise LogProblem(msg) from None
    return entries


def evidence(entries: Iterable[Entry], *, profile: str, codes: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What can be said of a run: the profile, its options, counts, refusals, warnings, and what was not checked."""
    entries = list(entries)
    counts: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    pixels: Counter[str] = Counter()
    for entry in entries:
        counts.update(entry.counts)
        warnings.update(entry.warnings)
        pixels.update({key: value for key, value in entry.pixels.items() if key != "share"})
    refused = [{"number": entry.number, "reason": entry.reason} for entry in entries if entry.reason]
    return {
        "version": 1,
        "profile": profile,
        "codes": [list(code) for code in codes],
        "files": len(entries),
        "deidentified": len(entries) - len(refused),
        "refused": refused,
        "actions": dict(sorted(counts.items())),
        "pixels": dict(sorted(pixels.items())),
        "warnings": dict(sorted(warnings.items())),
        "not_checked": list(_not_checked(dict(codes), pixels, warnings)),
    }


def _not_checked(codes: Mapping[str, str], pixels: Counter[str], warnings: Counter[str]) -> Iterable[str]:
    yield "whether an image itself identifies its patient: two chest films of one patient can be matched (AUC 0.994)"
    if "113101" not in codes:
        yield "text that is burned into pixels: the option 113101 was off"
    elif pixels["frames_read"] < pixels["frames"]:
        yield f"{pixels['frames'] - pixels['frames_read']:.0f} frames of long loops, but for their extremes over time"
    if warnings:
        yield "whether a face can be made from volumes of the head: they are not changed"
