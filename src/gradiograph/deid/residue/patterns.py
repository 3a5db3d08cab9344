"""Text that has the form of an identifier, and the letter of Safe Harbor that it falls under."""

from __future__ import annotations

import re

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DAY, _MONTHS, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_FORMS: tuple[tuple[str, str], ...] = (
    ("F", r"[\w.+-]+@[\w-]+\.[\w.-]+"),
    ("N", r"https?://\S+|\bwww\.\S+"),
    ("O", r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])"),
    ("G", r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    ("C", rf"(?<!\d){_YEAR}([-./]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d{{1,5}}(?!\d))"),
    ("C", rf"(?<![\d.]){_DAY}([-./]){_MONTHS}\1(?:{_YEAR}|\d\d)(?![\d.])"),
    ("C", rf"(?<![\d.]){_MONTHS}([-/]){_DAY}\1(?:{_YEAR}|\d\d)(?![\d.])"),
    ("C", rf"\b{_DAY}[ .-]*{_MONTH}[ .,-]*\d{{2,4}}\b|\b{_MONTH}\.? {_DAY},? {_YEAR}\b"),
    ("E", r"\bfax\b\W*\+?\d[\d ()-]{5,}"),
    (
        "D",
        r"(?<![\w.])\+\d{1,3}[ .-]?\(?\d{2,4}\)?[ .-]?\d{3,4}[ .-]?\d{2,5}"
        r"|(?<![\w.-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b",
    ),
    ("H", r"\b(?:mrn|record|patient ?id|pid|hospital no)\b\W*\w*\d{3,}"),
    ("I", r"\b(?:insur\w+|policy|health ?plan)\b\W*\w*\d{3,}"),
    ("J", r"\b(?:account|acct|iban)\b\W*\w*\d{3,}"),
    ("K", r"\b(?:licen[cs]e|certificate)\b\W*\w*\d{3,}"),
    ("L", r"\b(?:plate|vin|vehicle)\b\W*[\w-]*\d{3,}"),
    ("M", r"\b(?:serial|s/n|sn)\b\W*\w*\d{3,}"),
    ("B", r"\b(?:street|avenue|road|lane|boulevard|zip|stra(?:ss|ß)e)\b"),
    ("A", r"\w+\^\w+|(?-i:\b(?:Dr|Mr|Mrs|Ms|Prof)\.? +[A-Z][^\W\d_]+)|\b(?:patient|name)\b *[:=] *[^\W\d_]{2,}"),
    ("R", r"\b[A-Za-z]{1,4}\d{6,}\b|(?<![\d.])\d{7,}(?![\d.])"),
)
_COMPILED = tuple((letter, re.compile(form, re.IGNORECASE)) for letter, form in _FORMS)


def letters_in(text: str) -> frozenset[str]:
    """The letters of all that has the form of an identifier.

    Args:
        text: Any text.

    >>> sorted(letters_in("Seen on 1961-04-30, call (212) 555-0123, jane@example.org"))
    ['C', 'D', 'F']
    >>> letters_in("T2 TSE axial, 3.5 mm, TE 102")
    frozenset()
    """
    found = frozenset(letter for letter, form in _COMPILED if form.search(text))
    return found - {"R"} or found  # R is for what no other letter names
