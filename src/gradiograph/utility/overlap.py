"""How good a model is that segments: the overlap of its masks with the true ones, and how far their borders lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradiograph.utility.measure import Floats, Measure

if TYPE_CHECKING:
    from gradiograph.core.predictions import Judged

TOLERANCE = 1.0
"""Pixels that two borders may lie apart and still be the same to the surface Dice."""


class CaseMeasure(Measure):
    """The mean over cases, then over structures, of the values of this name in `Segmentations`; see `Measure`."""

    def undefined(self, judged: Judged) -> str:
        """Why there is no value; empty where there is one."""
        return "" if len(judged) and not np.isnan(self._values(judged)).all() else "no case shows a structure"

    def weighted(self, judged: Judged, weights: Floats) -> Floats:
        """The value under each set of weights; NaN where no case with a weight shows a structure."""
        means = mean_of_defined(weights, self._values(judged))
        found: Floats = mean_of_defined(np.ones((1, means.shape[1])), means.T)[0]
        return found

    def _values(self, judged: Judged) -> Floats:
        values: Floats = getattr(judged, self.name)
        return values


CASE_MEASURES = {
    measure.name: measure
    for measure in (
        CaseMeasure(name="dice", title="Dice", larger_is_better=True),
        CaseMeasure(name="surface_dice", title=f"Surface Dice at {TOLERANCE:g} pixel", larger_is_better=True),
        CaseMeasure(name="hd95", title="HD95 in pixels", larger_is_better=False),
    )
}
"""All measures of models that segment, by name."""


BORDERS = frozenset({"surface_dice", "hd95"})
"""Those that look at borders, which takes most of the time."""


def mean_of_defined(weights: Floats, values: Floats) -> Floats:
    """The weighted means (R, S) of those values (N, S) that are defined, by weights (R, N); NaN where none is."""
    there = ~np.isnan(values)
    total, count = weights @ np.where(there, values, 0.0), weights @ there.astype(np.float64)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
