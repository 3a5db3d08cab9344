"""What each protection changes: paired tests against no protection, corrected for how many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.seeds import numpy_stream
from gradiograph.report.findings import Finding, findings
from gradiograph.report.results import ATTACK, UNDEFENDED, Results, Setting
from gradiograph.report.statistics import Difference, Key, changes, difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradiograph.report.statistics import Values

HALF_WIDTH = 0.05
"""Of an interval of a share that a reader may want: this many points to either side."""
_EXACT = 14
"""Up to so many batches all signs are tried, above so many are drawn."""
_DRAWS = 20_000
_WIDE = 1.96


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The strongest attack on a protection against the strongest one without, film by film.

    Attributes:
        setting: Task and protocol.
        defence: Its label.
        metric: What both are judged by.
        change: Protected minus unprotected, over the films that both have.
        batches: The batches that these films are of: they are what is flipped.
        chance: How often signs drawn at random for the batches give a change as large (two-sided).
        corrected: The same after Holm's correction for all protections of the setting.
        needed: Batches after which a share's interval is about `HALF_WIDTH` to either side; None for no share.
    """

    setting: Setting
    defence: str
    metric: str
    change: Difference
    batches: int
    chance: float
    corrected: float
    needed: int | None

    @property
    def least(self) -> float:
        """The smallest chance that so many batches could ever show."""
        return 2.0 ** (1 - self.batches)


def comparisons(results: Results, setting: Setting) -> tuple[Comparison, ...]:
    """Every protection against none, in the audit file's order; none where that was not attacked.

    The unit is the batch, whose films share an update: the signs of the batches' mean changes are flipped (Fisher's
    randomisation test), and Holm 1979 corrects for the number of protections.
    """
    bare = next(iter(findings(results, setting, UNDEFENDED)), None)
    if bare is None:
        return ()
    made = []
    for defence in results.defences(setting):
        strongest = next(iter(findings(results, setting, defence)), None)
        if defence != UNDEFENDED and strongest is not None:
            made.append(_compared(results, strongest, bare))
    return holm([found for found in made if found is not None])


def holm(found: list[Comparison]) -> tuple[Comparison, ...]:
    """With corrected chances: the k-th smallest of n times n - k + 1, and no smaller than the one before."""
    corrected, largest = {}, 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=lambda index: found[index].chance)):
        largest = max(largest, min(1.0, (len(found) - rank) * found[place].chance))
        corrected[place] = largest
    return tuple(replace(comparison, corrected=corrected[place]) for place, comparison in enumerate(found))


def sign_flip(changes: NDArray[np.float64]) -> float:
    """The two-sided chance of a mean as far from 0 as that of `changes` (n,), if each sign were a coin's.

    >>> sign_flip(np.array([1.0, 1.0, 1.0, 1.0]))
    0.125
    """
    count = len(changes)
    if count <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=count)))
    else:
        drawn = numpy_stream(0, "sign flips", count).integers(0, 2, size=(_DRAWS - 1, count))
        signs = np.concatenate([np.ones((1, count)), 2.0 * drawn - 1.0])
    sums = np.abs(signs @ changes)
    return float((sums >= np.abs(changes.sum()) - 1e-12).mean())


def batches_needed(values: Values) -> int | None:
    """Batches after which the interval of a share is `HALF_WIDTH` to either side; None for what is no share.

    From the spread of the batches' means; where all films are alike from the rule of three, which bounds one side.
    """
    if not values.is_share or not len(values.values):
        return None
    means = _batch_means(values)
    spread = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    if spread == 0:
        films = 3 / HALF_WIDTH
        return ceil(films * len(means) / len(values.values))
    return ceil((_WIDE * spread / HALF_WIDTH) ** 2)


def _compared(results: Results, strongest: Finding, bare: Finding) -> Comparison | None:
    metric = strongest.attacked.metric
    own, other = (
        results.tables.get(Key(*finding.setting, finding.defence, finding.attack, ATTACK, metric))
        for finding in (strongest, bare)
    )
    if own is None or other is None:
        return None
    shared, change = changes(own, other), difference(own, other)
    if shared is None or change is None:
        return None
    means = _batch_means(shared)
    chance = sign_flip(means)
    return Comparison(
        setting=strongest.setting,
        defence=strongest.defence,
        metric=metric,
        change=change,
        batches=len(means),
        chance=chance,
        corrected=chance,
        needed=batches_needed(own),
    )


def _batch_means(values: Values) -> NDArray[np.float64]:
    batches = np.array([film.batch for film in values.films])
    return np.array([values.values[batches == batch].mean() for batch in np.unique(batches)])
