"""Measures with intervals that resample patients, and seeds where there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.seeds import numpy_stream

if TYPE_CHECKING:
    from gradiograph.core.predictions import Judged
    from gradiograph.utility.measure import Floats, Measure

REPLICATES = 500
"""Resamples behind an interval."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval; all None where it is undefined, and `undefined` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    undefined: str = ""


def estimate(seeds: Sequence[Judged], measure: Measure, *, replicates: int = REPLICATES) -> Estimate:
    """The mean of a measure over seeds.

    Args:
        seeds: Predictions of the same films, one model each.
        measure: What to measure.
        replicates: Resamples of patients and seeds behind the interval; 0 gives none.

    Returns:
        Value and percentile interval, of those resamples in which the measure is defined.
    """
    return _estimate([seeds], measure, lambda means: means[0], replicates)


def estimate_loss(
    reference: Sequence[Judged],
    seeds: Sequence[Judged],
    measure: Measure,
    *,
    replicates: int = REPLICATES,
) -> Estimate:
    """How much worse than a reference: positive is worse. Both are read on the same resampled patients.

    Args:
        reference: Predictions without the protection, seed by seed.
        seeds: Predictions of the same films with it, for the same seeds.
        measure: What to measure.
        replicates: See `estimate`.
    """
    sign = 1.0 if measure.larger_is_better else -1.0
    return _estimate([reference, seeds], measure, lambda means: sign * (means[0] - means[1]), replicates)


def _estimate(
    groups: Sequence[Sequence[Judged]],
    measure: Measure,
    combine: Callable[[Sequence[Floats]], Floats],
    replicates: int,
) -> Estimate:
    _require_same_films(groups)
    first, seeds = groups[0][0], len(groups[0])
    reason = measure.undefined(first)
    if reason:
        return Estimate(value=None, undefined=reason)
    # The first set of weights is the films as they are; the others resample the patients.
    weights = np.concatenate([np.ones((1, len(first))), _resamples(tuple(first.patients.tolist()), replicates)])
    rng = numpy_stream(0, "utility", "seeds")
    chosen = np.concatenate([np.arange(seeds)[None], rng.integers(seeds, size=(replicates, seeds))])
    means = [
        np.take_along_axis(np.stack([measure.weighted(p, weights) for p in group], axis=1), chosen, axis=1).mean(axis=1)
        for group in groups
    ]
    found, *resampled = combine(means)
    defined = [value for value in resampled if not np.isnan(value)]
    if not defined:
        return Estimate(value=float(found))
    low, high = np.quantile(defined, [0.025, 0.975])
    # A resample repeats films, which makes a calibration error larger: the interval must still hold the value.
    return Estimate(value=float(found), low=min(float(low), float(found)), high=max(float(high), float(found)))


@lru_cache(maxsize=8)
def _resamples(patients: tuple[str, ...], replicates: int) -> Floats:
    """(replicates, N): how often each film counts in each resample of the patients, all films of a patient together."""
    names, patient_of = np.unique(patients, return_inverse=True)
    count = len(names)
    times = numpy_stream(0, "utility", "patients").multinomial(count, np.full(count, 1 / count), size=replicates)
    return times[:, patient_of].astype(np.float64)


def _require_same_films(groups: Sequence[Sequence[Judged]]) -> None:
    first = groups[0][0]
    for group in groups:
        for other in group:
            if len(group) != len(groups[0]) or not first.same_films(other):
                msg = "Predictions of different films or of different seeds cannot be compared."
                raise ValueError(msg)
