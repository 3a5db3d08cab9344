"""What a model said of films whose class or mask is known. Runs without torch."""

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

    def same_films(self, other: Predictions | Segmentations) -> bool:
        """Whether the other's entries are of the same films."""
        return (
            isinstance(other, Predictions)
            and np.array_equal(self.patients, other.patients)
            and np.array_equal(self.labels, other.labels)
        )

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Predictions:
        """Those at these places, or where this is true."""
        parts = {name: getattr(self, name)[chosen] for name in ("labels", "probabilities", "patients", "sites")}
        return replace(self, **parts)

    def at(self, site: int) -> Predictions:
        """Those of one site's patients."""
        return self.take(self.sites == site)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentations:
    """How a model's masks agree with the true ones, one entry a case: all judged slices of a patient.

    NaN where a structure is neither there nor found in the case.

    Attributes:
        dice: (N, S) in [0, 1], of all pixels of the case together; S structures without the background.
        surface_dice: (N, S) in [0, 1], the mean over the case's slices.
        hd95: (N, S), in pixels, the mean over the case's slices.
        patients: N keyed pseudonyms.
        sites: int64 (N,), the site whose patient it is.
    """

    dice: NDArray[np.float64]
    surface_dice: NDArray[np.float64]
    hd95: NDArray[np.float64]
    patients: NDArray[np.str_] = field(repr=False)
    sites: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.dice)

    def same_films(self, other: Predictions | Segmentations) -> bool:
        """Whether the other's entries are of the same cases."""
        return isinstance(other, Segmentations) and np.array_equal(self.patients, other.patients)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Segmentations:
        """Those at these places, or where this is true."""
        names = ("dice", "surface_dice", "hd95", "patients", "sites")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def at(self, site: int) -> Segmentations:
        """Those of one site's patients."""
        return self.take(self.sites == site)


Judged = Predictions | Segmentations
"""What a training leaves behind: how its model does on films that it did not see."""
