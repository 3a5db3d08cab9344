"""How good a model is that segments: the overlap of its masks with the true ones, and how far their borders lie."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradiograph.core.predictions import Segmentations
from gradiograph.utility.measure import Floats, Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradiograph.core.predictions import Judged

Masks = NDArray[np.int64]
TOLERANCE = 1.0
"""Pixels that two borders may lie apart and still be the same to the surface Dice."""


class CaseMeasure(Measure):
    """The mean over cases, then over structures, of the values of this name in `Segmentations`; see `Measure`."""

    def undefined(self, judged: Judged) -> str:
        """Why there is no value; empty where there is one."""
        return "" if len(judged) and not np.isnan(self._values(judged)).all() else "no case shows a structure"

    def weighted(self, judged: Judged, weights: Floats) -> Floats:
        """The value under each set of weights; NaN where no case with a weight shows a structure."""
        means = _mean_of_defined(weights, self._values(judged))
        found: Floats = _mean_of_defined(np.ones((1, means.shape[1])), means.T)[0]
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


def judged_cases(
    blocks: Iterable[tuple[Masks, Masks]],
    patients: Sequence[str],
    sites: Sequence[int],
    structures: int,
    *,
    borders: bool = True,
) -> Segmentations:
    """How predicted masks agree with the true ones, patient by patient.

    A structure that only one of the two masks shows has Dice and surface Dice 0 and, in that slice, the image's
    diagonal as HD95; a slice in which neither shows it does not count.

    Args:
        blocks: Predicted and true masks, int64 (n, H, W) each, in the order of the patients.
        patients: The pseudonym of each slice's patient, N in all.
        sites: N.
        structures: K, the background included.
        borders: Whether borders are measured, which takes most of the time; else `surface_dice` and `hd95` are NaN.
    """
    parts = [_Agreement.of(guess, truth, structures, borders=borders) for guess, truth in blocks]
    whole = _Agreement(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Agreement.names()))
    names, first, case_of = np.unique(np.array(patients), return_index=True, return_inverse=True)
    member = np.eye(len(names))[case_of].T  # (cases, slices)
    shared, sizes = member @ whole.shared, member @ whole.sizes
    return Segmentations(
        dice=np.divide(2 * shared, sizes, out=np.full_like(shared, np.nan), where=sizes > 0),
        surface_dice=_mean_of_defined(member, whole.surface_dice),
        hd95=_mean_of_defined(member, whole.hd95),
        patients=names,
        sites=np.array(sites, dtype=np.int64)[first],
    )


@dataclass(frozen=True)
class _Agreement:
    """Of each slice and structure (n, S): shared pixels, the sum of both sizes, surface Dice and HD95."""

    shared: Floats
    sizes: Floats
    surface_dice: Floats = field(repr=False)
    hd95: Floats = field(repr=False)

    @staticmethod
    def names() -> tuple[str, ...]:
        return ("shared", "sizes", "surface_dice", "hd95")

    @classmethod
    def of(cls, guess: Masks, truth: Masks, structures: int, *, borders: bool) -> _Agreement:
        ours, theirs = (np.stack([masks == k for k in range(1, structures)], axis=1) for masks in (guess, truth))
        counts = [values.sum(axis=(2, 3)).astype(np.float64) for values in (ours & theirs, ours, theirs)]
        surface, distance = _borders(ours, theirs) if borders else (np.full_like(counts[0], np.nan),) * 2
        return cls(counts[0], counts[1] + counts[2], surface, distance)


def _borders(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Surface Dice and HD95 of each slice and structure (n, S), by MONAI."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # here, because it takes seconds to import
    from monai.metrics.surface_dice import compute_surface_dice

    guess, truth = (torch.from_numpy(masks.astype(np.float32)) for masks in (ours, theirs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a structure is missing, which is handled here
        surface = compute_surface_dice(guess, truth, [TOLERANCE] * ours.shape[1], include_background=True).numpy()
        distance = compute_hausdorff_distance(guess, truth, include_background=True, percentile=95).numpy()
    some, both = (join(ours.any(axis=(2, 3)), theirs.any(axis=(2, 3))) for join in (np.logical_or, np.logical_and))
    diagonal = float(np.hypot(*ours.shape[2:]))
    surface = np.where(both, surface, np.where(some, 0.0, np.nan))
    return surface, np.where(both, distance, np.where(some, diagonal, np.nan))


def _mean_of_defined(weights: Floats, values: Floats) -> Floats:
    """The weighted means (R, S) of those values (N, S) that are defined, by weights (R, N); NaN where none is."""
    there = ~np.isnan(values)
    total, count = weights @ np.where(there, values, 0.0), weights @ there.astype(np.float64)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
