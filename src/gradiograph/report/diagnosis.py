"""What the ceiling says, in plain sentences: pure functions of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEARER = 0.1
"""A picture is nearer than another where its error is smaller by this share."""
EQUAL = 0.01
"""Objectives are equal where they differ by less than this share of what the attack's search gained."""


class Diagnosis(StrEnum):
    """Why an attack found no more, in a plain sentence."""

    FOUND = "The attack came as near as a search that began near the film: a better search gains little."
    SEARCH_FAILED = (
        "The search failed: begun near the film, it ended nearer to it, at a smaller objective than the attack's. "
        "The update holds more than this attack found."
    )
    FILM_LEFT = (
        "The search failed: begun near the film, it left it although the objective is smaller there. "
        "The update may hold more than this attack found."
    )
    OBJECTIVE_BLIND = (
        "The objective does not hold the patient: even begun near the film, the search drifted to pictures no nearer "
        "than can be had without this patient's update, at an objective no larger than the film's own."
    )
    UNDECIDED = (
        "The objective does not tell the film from what the attack found: a search begun near the film stayed nearer, "
        "but at no smaller objective."
    )


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where a search ended.

    Attributes:
        objective: Smaller is better.
        error: At least 0, smaller is nearer to the film.
    """

    objective: float
    error: float


def diagnose(*, attack: Ending, ceiling: Ending, at_film: float | None, control: float, gained: float) -> Diagnosis:
    """What the ceiling says of an attack.

    Args:
        attack: Where the attack ended.
        ceiling: Where the same search ended that began near the film.
        at_film: The objective at the film itself; None where it is not known: the attack's stands in.
        control: The smallest error of what needs no update of this patient: the mismatched control, the stock film,
            the mean film.
        gained: How much the attack's search lowered its objective, at least 0: the scale of its differences.
    """
    margin = EQUAL * gained
    if ceiling.error >= (1 - NEARER) * control:
        reference = attack.objective if at_film is None else at_film
        drawn_away = ceiling.objective <= reference + margin
        return Diagnosis.OBJECTIVE_BLIND if drawn_away else Diagnosis.FILM_LEFT
    if attack.error <= (1 + NEARER) * ceiling.error:
        return Diagnosis.FOUND
    return Diagnosis.SEARCH_FAILED if ceiling.objective < attack.objective - margin else Diagnosis.UNDECIDED


def describe_spectrum(visible: Sequence[float], probed: int, log_condition: float, *, is_linear: bool) -> str:
    """How many of the coarsest patterns an update shows, in a plain sentence.

    Args:
        visible: For each film, its visible directions.
        probed: How many there could be.
        log_condition: Log10 of the condition number, the median over the films.
        is_linear: Whether the change is linear in the pattern's strength.
    """
    rough = "" if is_linear else " The change is not linear in a pattern's strength: take this as a rough figure."
    if max(visible) == 0:
        return (
            f"The update says nothing at this resolution: in none of the {probed} coarsest directions of a film does "
            f"it show more than its noise, even with all else of the film known.{rough}"
        )
    low, high = (f"{end:.0f}" for end in (min(visible), max(visible)))
    films = f", {low} to {high} over the films" if low != high else ""
    return (
        f"With all else of a film known, the update shows {median(visible):.0f} of its {probed} coarsest directions "
        f"above the noise{films}; the best seen has 10^{log_condition:.1f} times the signal of the worst.{rough}"
    )
