"""The levels and steps behind quantised values, found from the values alone, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ULPS = (0, 1, -1, 2, -2)
"""How far the step that a value gives may lie from the one that made it: two roundings."""
_SEARCHED = 256
"""The smallest level of a block is looked for up to here; above, the block goes as it is."""


class Levels(NamedTuple):
    """Values as whole multiples of a step.

    Attributes:
        levels: int32 (n,).
        steps: float32 (blocks,), 0 for a block of zeros.
    """

    levels: NDArray[np.int32]
    steps: NDArray[np.float32]

    def values(self, block: int) -> NDArray[np.float32]:
        """Each level times the step of its block of so many values, rounded once, as the quantiser did."""
        return self.levels.astype(np.float32) * np.repeat(self.steps, block)[: len(self.levels)]


def find_levels(values: NDArray[np.float32], block: int, most: int) -> Levels | None:
    """The levels and steps whose products are exactly these values; None where there are none.

    Args:
        values: float32 (n,), finite.
        block: Consecutive values that share a step.
        most: The highest level.
    """
    rows = np.pad(values, (0, -len(values) % block)).reshape(-1, block)
    sizes = [np.unique(np.abs(row[row != 0])) for row in rows]
    if max(map(len, sizes), default=0) > most:
        return None
    steps = np.array([_step(row, most) for row in sizes], dtype=np.float32)
    if not np.isfinite(steps).all():
        return None
    whole = np.where(steps > 0, steps, np.float32(1))[:, None]
    levels = np.rint(rows / whole).astype(np.int32).reshape(-1)[: len(values)]
    found = Levels(levels, steps)
    return found if np.array_equal(found.values(block), values) else None


def _step(sizes: NDArray[np.float32], most: int) -> float:
    """The step behind a block's different sizes, in order; 0 without any, NaN where there is none."""
    if not len(sizes):
        return 0.0
    for level in range(1, min(most, _SEARCHED) + 1):
        highest = np.rint(level * sizes[-1] / sizes[0])
        if highest > most:
            break
        # The largest size pins the step down best: its rounding is the smallest share of it.
        near = np.float32(sizes[-1] / np.float32(highest))
        for ulps in _ULPS:
            step = np.float32(near + ulps * np.spacing(near))
            if np.array_equal(np.rint(sizes / step).astype(np.float32) * step, sizes):
                return float(step)
    return float("nan")
