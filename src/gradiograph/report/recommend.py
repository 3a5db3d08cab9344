"""The cheapest protection that holds a policy, chosen on one half of the patients and validated on the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.core.errors import BadSetting
from gradiograph.core.seeds import numpy_stream
from gradiograph.report.policy import Policy, Ruling, rule
from gradiograph.report.statistics import collect
from gradiograph.report.utility import Model, models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.report.results import Results


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What the run recommends.

    Attributes:
        chosen: The cheapest protection that passes on the first half of the patients; None where none does.
        validated: The same protection on the second half, which the choice never saw.
        rulings: All protections on the first half.
    """

    chosen: Ruling | None
    validated: Ruling | None
    rulings: tuple[Ruling, ...]

    @property
    def holds(self) -> bool:
        """Whether there is one, and it passes on patients that the choice never saw."""
        return self.validated is not None and self.validated.passed

    @property
    def sentence(self) -> str:
        """In words."""
        if self.chosen is None or self.validated is None:
            return "No protection of this run holds the policy; none is recommended."
        name = f"{self.chosen.defence} ({self.chosen.setting.task}, {self.chosen.setting.protocol})"
        if not self.validated.passed:
            reasons = "; ".join(self.validated.failures)
            return f"None is recommended: {name} holds on one half of the patients, not on the other: {reasons}."
        cost = "" if self.validated.loss is None else f" It costs {self.validated.loss:.3f} there."
        return (
            f"Recommended: {name}. Chosen on one half of the patients, it holds the policy on the other as well.{cost}"
        )


def recommend(results: Results, policy: Policy) -> Recommendation:
    """Choose the protection that costs least, by the score lost and then by bytes, and validate it.

    Attacked batches and test patients are each split in two; batches that serve each other as mismatched update stay
    together. No test patient is attacked, so no patient is in both halves.

    Args:
        results: The log, read.
        policy: The limits.

    Raises:
        BadSetting: fewer than four attacked batches: a half would have no control.
    """
    batches = 1 + max(row.batch for row in results.rows)
    if batches < 4:
        msg = (
            f"A recommendation needs at least 4 attacked batches, two in each half; the run has {batches}. Attack more."
        )
        raise BadSetting(msg)
    found = models(results)
    first, second = (
        rule(_half_of_results(results, batches, side), policy, _half_of_models(found, side)) for side in (0, 1)
    )
    passing = [ruling for ruling in first if ruling.passed]
    if not passing:
        return Recommendation(chosen=None, validated=None, rulings=first)
    chosen = min(passing, key=lambda ruling: (ruling.loss or 0.0, ruling.bytes_up))
    validated = next(r for r in second if (r.setting, r.defence) == (chosen.setting, chosen.defence))
    return Recommendation(chosen=chosen, validated=validated, rulings=first)


def _half_of_results(results: Results, batches: int, side: int) -> Results:
    """The rows of every second group of batches; the last group may have three."""
    rows = tuple(row for row in results.rows if min(row.batch // 2, batches // 2 - 1) % 2 == side)
    return replace(results, rows=rows, tables=collect(rows))


def _half_of_models(found: Sequence[Model], side: int) -> list[Model]:
    """The predictions of every second patient, in an order drawn once."""
    patients = sorted({str(patient) for model in found for p in model.predictions.values() for patient in p.patients})
    order = numpy_stream(0, "recommend").permutation(len(patients))
    mine = {patients[place] for place in order[side::2]}
    return [
        replace(
            model,
            predictions={
                seed: p.take(np.array([str(patient) in mine for patient in p.patients]))
                for seed, p in model.predictions.items()
            },
        )
        for model in found
    ]
