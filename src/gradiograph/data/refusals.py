"""Files of a source that cannot be used: each gets a line, the others are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.errors import DataProblem

if TYPE_CHECKING:
    from collections.abc import Sequence


class Refused(Exception):
    """A file cannot be used. The message is the rest of a sentence that begins with the file, without its name."""


def refusal(position: int, total: int, why: Refused | str, what: str = "File") -> str:
    """The line about one refused file.

    >>> refusal(3, 17, Refused("is empty: 0 bytes. Copy it again"))
    'File 3 of 17 (in sorted order) is empty: 0 bytes. Copy it again.'
    """
    return f"{what} {position} of {total} (in sorted order) {why}."


def require_some(used: int, refused: Sequence[str], total: int) -> None:
    """Raise `DataProblem` where nothing is left to use, with the first reason."""
    if not used:
        first = f" {refused[0]}" if refused else ""
        msg = f"None of the {total} files under the folder given as `path` can be used.{first}"
        raise DataProblem(msg)
