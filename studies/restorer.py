"""How films and reconstructions look, in two numbers: python studies/restorer.py RUN FILE.

For each attack, protection and control of a run: `colour`, the mean spread of a pixel over its channels (0 is grey),
and `detail`, the power of differences between neighbouring pixels of the grey picture as a share of the original's (1
is as sharp, below blurred, above noisy). Means over films.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.log import Log

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradiograph.log import Cell

CONTROLS = ("none", "mismatched_update")


def main(run: Path, sheet: Path) -> None:
    """Write the table."""
    log = Log.open(run)
    found: dict[tuple[str, str, str], list[NDArray[np.float64]]] = defaultdict(list)
    for cell in log.cells():
        if cell.attack and cell.control in CONTROLS:
            found[cell.attack, cell.defence, cell.control].append(_looks(log, cell))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    with sheet.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(("attack", "defence", "control", "films", "colour", "detail"))
        for key, parts in sorted(found.items()):
            values = np.concatenate(parts)
            writer.writerow((*key, len(values), *(f"{value:.4f}" for value in values.mean(axis=0))))


def _looks(log: Log, cell: Cell) -> NDArray[np.float64]:
    """(B, 2): colour and detail of a cell's pictures."""
    images, films = log.images(cell.id), log.victims(cell.batch).images
    if images is None:
        msg = f"cell {cell.id} has no pictures"
        raise LookupError(msg)
    colour = images.std(axis=1).mean(axis=(1, 2))
    return np.stack([colour, _power(images) / _power(films)], axis=1).astype(np.float64)


def _power(images: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = images.mean(axis=1)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    power: NDArray[np.float32] = (across**2).mean(axis=(1, 2)) + (down**2).mean(axis=(1, 2))
    return power


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
