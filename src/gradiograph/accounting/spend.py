"""A mechanism that ran a number of times: what accountants compose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradiograph.core.privacy import PrivacyEvent


@dataclass(frozen=True, kw_only=True)
class Spend:
    """A Poisson-sampled Gaussian mechanism, `count` times.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the sensitivity, at least 0.
        sample_rate: In (0, 1]; 1 is no sampling.
        count: At least 1.
    """

    noise_multiplier: float
    sample_rate: float = 1.0
    count: int = 1


def spends(events: Iterable[PrivacyEvent]) -> tuple[Spend, ...]:
    """The events of one unit, those of equal noise and rate counted together."""
    counts: dict[tuple[float, float], int] = {}
    for event in events:
        key = event.noise_multiplier, event.sample_rate
        counts[key] = counts.get(key, 0) + event.count
    return tuple(Spend(noise_multiplier=s, sample_rate=q, count=n) for (s, q), n in counts.items() if n)


def is_sampled(spent: Iterable[Spend]) -> bool:
    """Whether any mechanism takes a part of the units only."""
    return any(spend.sample_rate < 1 for spend in spent)


def total_noise_multiplier(spent: Iterable[Spend]) -> float:
    """The noise of the one Gaussian mechanism that is worth them all, sampling left out: 1 / sqrt(sum n / sigma^2).

    >>> total_noise_multiplier([Spend(noise_multiplier=2.0, count=4)])
    1.0
    """
    if any(spend.noise_multiplier == 0 for spend in spent):
        return 0.0
    precision = sum(spend.count / spend.noise_multiplier**2 for spend in spent)
    return 1 / sqrt(precision) if precision else inf
