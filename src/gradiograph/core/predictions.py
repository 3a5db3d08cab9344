"""What a model said of films whose class is known. Runs without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """A model's probabilities for some films, one entry a film in each.

    Attributes:
        labels: int64 (N,) in [0, K).
        probabilities: (N, K) in [0, 1]; each row adds up to 1.
        patients: N keyed pseudonyms.
        sites: int64 (N,), the site whose patient it is.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.str_] = field(repr=False)
    sites: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Predictions:
        """Those at these places, or where this is true."""
        parts = {name: getattr(self, name)[chosen] for name in ("labels", "probabilities", "patients", "sites")}
        return replace(self, **parts)

    def at(self, site: int) -> Predictions:
        """Those of one site's patients."""
        return self.take(self.sites == site)
