"""Dates moved by whole days."""

from __future__ import annotations

import datetime as dt
import re

_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})(.*)", re.DOTALL)


def move_date(value: str, days: int) -> str:
    """A DA or DT value, moved; its time of day and its fractions stay.

    Args:
        value: `YYYYMMDD`, also with points, or `YYYYMMDDHHMMSS.FFFFFF+ZZZZ`.
        days: How far; negative is back.

    Returns:
        The moved value; empty where the value has no whole date, which cannot be moved.

    >>> move_date("20240301", -1), move_date("20240101120000.5", -1), move_date("2024", -1)
    ('20240229', '20231231120000.5', '')
    """
    found = _DATE.fullmatch(value.strip())
    if found is None:
        return ""
    year, month, day, rest = found.groups()
    try:
        moved = dt.date(int(year), int(month), int(day)) + dt.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}{rest}"
