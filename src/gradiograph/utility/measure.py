"""What every measure of a trained model has: a name, a direction, a value under weights, and when there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gradiograph.core.predictions import Judged

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """One number for what a model says of some films or cases.

    Attributes:
        name: In audit files and tables.
        title: In reports.
        larger_is_better: Its direction.
    """

    name: str
    title: str
    larger_is_better: bool

    @abstractmethod
    def undefined(self, judged: Judged) -> str:
        """Why there is no value; empty where there is one."""

    @abstractmethod
    def weighted(self, judged: Judged, weights: Floats) -> Floats:
        """The value under each set of weights.

        Args:
            judged: N films or cases.
            weights: (R, N), how often each counts: a resample of patients is a set of weights.

        Returns:
            (R,); NaN where it is undefined for the entries that have a weight.
        """

    def __call__(self, judged: Judged) -> float | None:
        """The value, None where it is undefined."""
        return None if self.undefined(judged) else float(self.weighted(judged, np.ones((1, len(judged))))[0])
