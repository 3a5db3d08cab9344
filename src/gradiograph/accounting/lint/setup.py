"""What the epsilon of one set-up rests on, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sampling = Literal["poisson", "shuffled", "all"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The facts about one private mechanism that the rules read; None is not known, and then a rule is not checked.

    Attributes:
        where: The place that the facts are from: a defence stack, a line of a file, an object.
        epsilon: As claimed, for one release.
        accounted: Epsilon as accounted for the noise that is there.
        delta: As claimed.
        unit: Whose participation the epsilon hides: one "image", one "slice" of a volume, one "patient", one "client".
        images_per_patient: The most that one patient has.
        units: How many units there are: n, of the smallest site.
        rounds: Releases in a training.
        accountant: Whether the privacy loss adds up over the rounds ("kept") or begins anew in each ("restarted").
        sampling: How the examples of a step, or the clients of a round, are drawn.
        accounted_sampling: How the accountant takes them to be drawn.
        noise_divided_by: What the noise of a mean is divided by: the number of "clients", or a fixed "denominator" that
            the weights of the mean are divided by as well.
        weighting: Whether the mean counts every client the same ("equal"), by a size that it reports itself
            ("reported"), or by one that is capped ("capped").
        clients: m, of a round.
        largest_weight: Of the mean, in (0, 1].
        clipped: Whether each unit's contribution is bounded before the noise.
        sensitivity_per_clip: The sensitivity that the noise is scaled to, over the bound.
        sensitivity_follows_clip: Whether the noise is computed from the bound itself.
        neighbours: What is hidden: that a unit is there ("add_or_remove"), or what it holds ("replace").
        formula: How the noise is computed from epsilon: by sqrt(2 ln(1.25 / delta)) ("classical"), or exactly.
        statistics: Statistics of normalisation layers that leave without noise.
        ranges: Ranges, norms and scales of the data or the update that leave without noise.
        counts: Counts and metrics that leave without noise, but the number of examples.
        sends_size: Whether the number of examples leaves without noise.
        noise_on: Whether "all" values get noise, those that the "data" selected, or a "fixed" part.
        noiseless: Transformations without noise that stand for privacy.
        fixed_seed: Whether the noise comes from a generator with a seed that stands in the code.
    """

    where: str
    epsilon: float | None = None
    accounted: float | None = None
    delta: float | None = None
    unit: Literal["image", "slice", "patient", "client"] | None = None
    images_per_patient: int | None = None
    units: int | None = None
    rounds: int | None = None
    accountant: Literal["kept", "restarted"] | None = None
    sampling: Sampling | None = None
    accounted_sampling: Sampling | None = None
    noise_divided_by: Literal["clients", "denominator"] | None = None
    weighting: Literal["equal", "reported", "capped"] | None = None
    clients: int | None = None
    largest_weight: float | None = None
    clipped: bool | None = None
    sensitivity_per_clip: float | None = None
    sensitivity_follows_clip: bool | None = None
    neighbours: Literal["add_or_remove", "replace"] | None = None
    formula: Literal["classical", "exact"] | None = None
    statistics: tuple[str, ...] | None = None
    ranges: tuple[str, ...] | None = None
    counts: tuple[str, ...] | None = None
    sends_size: bool | None = None
    noise_on: Literal["all", "data", "fixed"] | None = None
    noiseless: tuple[str, ...] | None = None
    fixed_seed: bool | None = None
