"""What was done that costs privacy: recorded by who did it, accounted for elsewhere. Runs without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Whose = Literal["image", "patient", "client"]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How often a client's data was used, in a training of some rounds.

    Attributes:
        site: Who holds the data, in words.
        images: How many.
        patients: Of how many patients.
        most_images: The most images that one patient has.
        sample_rate: The chance of an image to be in a local step; 1 is always.
        steps: Local steps in a round.
        rounds: Rounds in which the client took part.
    """

    site: str
    images: int
    patients: int
    most_images: int = 1
    sample_rate: float = 1.0
    steps: int = 1
    rounds: int = 1


@dataclass(frozen=True, kw_only=True)
class PrivacyEvent:
    """A Gaussian mechanism that ran a number of times on the data of one site.

    Attributes:
        site: Who holds the data; sites have no patient in common.
        unit: Whose presence the noise hides: one image's, one patient's, or all data of a client.
        units: How many units the site has.
        sample_rate: The chance of each unit to take part in a step, by itself (Poisson); 1 is all units in all steps.
        noise_multiplier: Standard deviation of the noise over the most that one unit changes.
        clip_norm: The most that one unit changes.
        steps: Steps in a round.
        rounds: Rounds.
        delta: The chance that the budget does not hold.
        group: The most units that one patient has; above 1 the patient's own budget is larger than the unit's.
        claimed: The epsilon that is claimed for it; None where none is.
    """

    site: str = "site 0"
    unit: Whose = "image"
    units: int
    sample_rate: float = 1.0
    noise_multiplier: float
    clip_norm: float = 1.0
    steps: int = 1
    rounds: int = 1
    delta: float
    group: int = 1
    claimed: float | None = None

    @property
    def count(self) -> int:
        """How often the mechanism ran: budgets compose over steps and rounds."""
        return self.steps * self.rounds


def default_delta(units: int) -> float:
    """A delta for this many units where none is stated: a tenth of one over their number, at most 1e-5.

    >>> default_delta(200), default_delta(50_000)
    (1e-05, 2e-06)
    """
    return min(1e-5, 0.1 / max(1, units))
