"""The films that were attacked, as the log keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Victims:
    """One batch of originals.

    Attributes:
        records: Keyed pseudonyms of the films, in the batch's order.
        labels: Their class names.
        images: (B, C, H, W) float32 in [0, 1].
    """

    records: tuple[str, ...]
    labels: tuple[str, ...]
    images: NDArray[np.float32] = field(repr=False)
