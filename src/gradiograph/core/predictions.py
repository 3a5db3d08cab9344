"""What a model said of films whose class or mask is known. Runs without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a training leaves behind: how its model does on films that it did not see. All fields have one entry a film.

    Attributes:
        patients: N keyed pseudonyms.
        sites: int64 (N,), the site whose patient it is.
    """

    patients: NDArray[np.str_] = field(repr=False)
    sites: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.patients)

    def same_films(self, other: Judged) -> bool:
        """Whether the other's entries are of the same films."""
        return type(self) is type(other) and np.array_equal(self.patients, other.patients)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Those at these places, or where this is true."""
        return replace(self, **{entry.name: getattr(self, entry.name)[chosen] for entry in fields(self)})

    def at(self, site: int) -> Self:
        """Those of one site's patients."""
        return self.take(self.sites == site)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Judged):
    """A classifier's probabilities for some films.

    Attributes:
        labels: int64 (N,) in [0, K).
        probabilities: (N, K) in [0, 1]; each row adds up to 1.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def same_films(self, other: Judged) -> bool:
        """Whether the other's entries are of the same films, by patient and label."""
        return (
            super().same_films(other) and isinstance(other, Predictions) and np.array_equal(self.labels, other.labels)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentations(Judged):
    """How a model's masks agree with the true ones, one entry a case: all judged slices of a patient.

    NaN where a structure is neither there nor found in the case.

    Attributes:
        dice: (N, S) in [0, 1], of all pixels of the case together; S structures without the background.
        surface_dice: (N, S) in [0, 1], the mean over the case's slices.
        hd95: (N, S), in pixels, the mean over the case's slices.
    """

    dice: NDArray[np.float64]
    surface_dice: NDArray[np.float64]
    hd95: NDArray[np.float64]
