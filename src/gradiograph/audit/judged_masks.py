"""How the masks of a trained model agree with the true ones, patient by patient."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gradiograph.core.predictions import Segmentations
from gradiograph.utility import TOLERANCE, mean_of_defined
from gradiograph.utility.measure import Floats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Masks = NDArray[np.int64]


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
    whole = _Agreement(*(np.concatenate([getattr(p, entry.name) for p in parts]) for entry in fields(_Agreement)))
    names, first, case_of = np.unique(np.array(patients), return_index=True, return_inverse=True)
    member = np.eye(len(names))[case_of].T  # (cases, slices)
    shared, sizes = member @ whole.shared, member @ whole.sizes
    return Segmentations(
        dice=np.divide(2 * shared, sizes, out=np.full_like(shared, np.nan), where=sizes > 0),
        surface_dice=mean_of_defined(member, whole.surface_dice),
        hd95=mean_of_defined(member, whole.hd95),
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

    @classmethod
    def of(cls, guess: Masks, truth: Masks, structures: int, *, borders: bool) -> _Agreement:
        ours, theirs = (np.stack([masks == k for k in range(1, structures)], axis=1) for masks in (guess, truth))
        counts = [values.sum(axis=(2, 3)).astype(np.float64) for values in (ours & theirs, ours, theirs)]
        surface, distance = _borders(ours, theirs) if borders else (np.full_like(counts[0], np.nan),) * 2
        return cls(counts[0], counts[1] + counts[2], surface, distance)


def _borders(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Surface Dice and HD95 of each slice and structure (n, S), by MONAI."""
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
