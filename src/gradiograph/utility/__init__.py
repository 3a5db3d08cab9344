"""How useful a trained model is, from what it says: measures, and intervals by patient. Runs without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.utility.estimates import REPLICATES, Estimate, estimate, estimate_loss
from gradiograph.utility.measure import Measure
from gradiograph.utility.measures import MEASURES
from gradiograph.utility.overlap import BORDERS, CASE_MEASURES, TOLERANCE, mean_of_defined

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BORDERS",
    "CASE_MEASURES",
    "MEASURES",
    "REPLICATES",
    "TOLERANCE",
    "Estimate",
    "Measure",
    "estimate",
    "estimate_loss",
    "mean_of_defined",
    "measures_beside",
]


def measures_beside(name: str) -> Mapping[str, Measure]:
    """The measures of the same kind of model as this one, itself among them, by name."""
    return CASE_MEASURES if name in CASE_MEASURES else MEASURES
