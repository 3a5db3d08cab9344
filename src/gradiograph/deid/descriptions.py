"""Free text, cleaned: the words of a clinical vocabulary stay, all others go."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_TOKENS = re.compile(r"[^\W_]+(?:\.\d+[^\W_]*)?")
# Numbers as of a slice thickness, a magnification or a sequence; four digits may be a year.
_MEASURE = re.compile(
    r"\d{1,3}(?:\.\d{1,2})?(?:mm|cm|kv|ma|mas|s|sec|min|ml|mg|x|d|t|deg)?|[tcls]\d{1,2}", re.IGNORECASE
)


@cache
def vocabulary() -> frozenset[str]:
    """The words that may stay, in lower case."""
    text = (files(__package__) / "clinical_words.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def clean_text(text: str) -> str:
    """A description without any word or number that is not clinical vocabulary.

    >>> clean_text("CT chest of Jane Doe, 61y, MRN 4711-0815; slice 2.5mm")
    'CT chest of slice 2.5mm'
    """
    tokens = _TOKENS.findall(text)
    # Numbers in a row are a telephone, a date or a record's number, however short each is.
    rows = [*map(str.isdecimal, tokens), False]
    kept = [
        token
        for place, token in enumerate(tokens)
        if token.lower() in vocabulary()
        or (_MEASURE.fullmatch(token) and not (rows[place] and (rows[place - 1] or rows[place + 1])))
    ]
    return " ".join(kept)
