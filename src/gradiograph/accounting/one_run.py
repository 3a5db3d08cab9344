"""A lower bound on epsilon from guessing who was in one training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

SHARES = (0.9, 0.3, 0.1)
"""How many of the canaries are guessed, in shares: nearly all (about half are in, not exactly), or those whose scores
are surest. Each share is a test of its own, so that the level is divided by their number."""


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """What guessing the canaries of one training shows.

    Attributes:
        epsilon: The true epsilon is at least this, with the confidence given; 0 shows nothing.
        delta: At which it holds.
        confidence: The chance that a bound so made is not above the true epsilon, at least.
        canaries: How many could be in or out.
        guesses: How many of them were guessed.
        correct: How many guesses were right.
        largest: The bound if every guess had been right: this many canaries can never show more.
    """

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    guesses: int
    correct: int
    largest: float


def lower_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], *, delta: float, confidence: float = 0.95
) -> LowerBound:
    """Guess from its score whether each canary was in, and bound epsilon by how many guesses are right.

    The highest scores are guessed to be in, as many of the lowest to be out, and the rest is not guessed; how many is
    tried at each of `SHARES`, and the best counts, at a level divided by their number.

    Args:
        scores: (m,), larger where a canary seems to have been in.
        included: (m,), whether it was: each by its own fair coin.
        delta: In [0, 1).
        confidence: In (0, 1).

    Source: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, algorithm 1 and theorem 5.2.

    >>> rng = np.random.default_rng(0)
    >>> included = rng.random(1000) < 0.5
    >>> found = lower_bound(included + 0.1 * rng.standard_normal(1000), included, delta=1e-5)
    >>> found.correct, round(found.epsilon, 2), round(found.largest, 2)
    (900, 5.34, 5.34)
    """
    canaries, level = len(scores), (1 - confidence) / len(SHARES)
    order = np.argsort(scores, kind="stable")
    found = []
    for share in SHARES:
        half = max(1, int(share * canaries) // 2)
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        found.append((_bound(canaries, 2 * half, correct, delta, level), 2 * half, correct))
    epsilon, guesses, correct = max(found)
    return LowerBound(
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        largest=largest_bound(canaries, delta=delta, confidence=confidence),
    )


def largest_bound(canaries: int, *, delta: float, confidence: float = 0.95) -> float:
    """The bound that this many canaries give if every guess is right.

    >>> [round(largest_bound(m, delta=1e-5), 1) for m in (100, 1000, 5000)]
    [3.1, 5.3, 6.7]
    """
    level = (1 - confidence) / len(SHARES)
    guesses = [2 * max(1, int(share * canaries) // 2) for share in SHARES]
    return max(_bound(canaries, many, many, delta, level) for many in guesses)


def chance_of_guesses(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The most that the chance of at least this many right guesses can be under (epsilon, delta)-privacy.

    Steinke et al. 2023, theorem 5.2: P[W >= v] + 2 m delta max over i of P[v > W >= v - i] / i, where W is binomial: r
    guesses, each right with probability e^epsilon / (1 + e^epsilon).

    Args:
        canaries: m, each in by its own fair coin.
        guesses: r, at most m.
        correct: v, at most r.
        epsilon: At least 0.
        delta: In [0, 1).
    """
    right = expit(epsilon)
    tail = float(binom.sf(correct - 1, guesses, right))
    if not correct or not delta:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    worst = float((below / np.arange(1, correct + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * worst)


def _bound(canaries: int, guesses: int, correct: int, delta: float, level: float) -> float:
    """The epsilon up to which so many right guesses have at most this chance; 0 where they are no surprise."""

    def surprise(epsilon: float) -> float:
        return chance_of_guesses(canaries, guesses, correct, epsilon, delta) - level

    if surprise(0.0) >= 0:
        return 0.0
    high = 1.0
    while surprise(high) < 0:
        high *= 2
    return float(brentq(surprise, 0.0, high, xtol=1e-6))
