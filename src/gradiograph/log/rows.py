"""Rows as JSON Lines (in a cell) and as one CSV table (for other programs)."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from math import isfinite
from typing import TYPE_CHECKING

from gradiograph.core.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = tuple(field.name for field in fields(Row))


def to_lines(rows: Iterable[Row]) -> bytes:
    """JSON Lines, one row each.

    Raises:
        ValueError: a value is NaN or infinite: no mean, interval or plot could stand on it.
    """
    lines = []
    for row in rows:
        if not isfinite(row.value):
            msg = f"Metric '{row.metric}' gave {row.value}; a row's value must be finite."
            raise ValueError(msg)
        lines.append(json.dumps(asdict(row) | {"value": float(row.value)}, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def read_lines(path: Path) -> list[Row]:
    """The rows that `to_lines` wrote."""
    # Not splitlines(): a label may hold a line separator that JSON leaves as it is.
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def to_csv(rows: Iterable[Row]) -> bytes:
    """One line per row under a header, in the rows' order."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        entry = asdict(row) | {"larger_leaks_more": "true" if row.larger_leaks_more else "false"}
        writer.writerow([entry[name] for name in COLUMNS])
    return buffer.getvalue().encode()


def place(row: Row) -> tuple[str | int, ...]:
    """The key that sorts rows, whatever order the cells ran in."""
    grid = (row.task, row.protocol, row.defence, row.attack, row.control)
    return (*grid, row.round, row.batch, row.seed, row.metric, row.record)
