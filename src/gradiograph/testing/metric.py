"""What a metric promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.testing import specimens
from gradiograph.testing.contract import assert_same, clone, global_randomness_untouched, run_checks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# (guess, truth, labels, context) -> scores
Metric = Callable[[Tensor, Tensor, Tensor, ScoringContext], Iterable[Score]]


def check_metric(
    build: Callable[[], Metric], *, side: int = 64, network_folders: Mapping[str, Path] | None = None
) -> None:
    """Check a metric on four invented films: one value per record, its direction, determinism.

    Args:
        build: Makes the metric: a callable (guess (B, C, H, W), truth (B, C, H, W), labels (B,), context) -> scores.
        side: Height and width of the films in pixels.
        network_folders: Where the judging networks' weights are, for a metric that has one.

    Raises:
        ContractBroken: a promise is broken.
    """
    metric = build()
    name = getattr(metric, "__name__", type(metric).__name__)
    for channels in (1, 3):
        shape = (channels, side, side)
        trial = _Trial(metric=metric, shape=shape, network_folders=dict(network_folders or {}))
        run_checks(trial, _CHECKS, f"{name} on {channels} x {side} x {side}")


@dataclass(frozen=True, kw_only=True)
class _Trial:
    metric: Metric
    shape: tuple[int, ...]
    network_folders: Mapping[str, Path]

    @property
    def truth(self) -> Tensor:
        return specimens.films(4, self.shape, "truth")

    @property
    def guess(self) -> Tensor:
        return (0.6 * self.truth + 0.4 * specimens.films(4, self.shape, "guess")).clamp(0, 1)

    @property
    def labels(self) -> Tensor:
        return torch.arange(4) % 2

    @property
    def context(self) -> ScoringContext:
        return specimens.scoring_context(self.shape, self.network_folders)

    def score(self, guess: Tensor) -> dict[str, Score]:
        return self.by_name(self.metric(guess, self.truth, self.labels, self.context))

    @staticmethod
    def by_name(scores: Iterable[Score]) -> dict[str, Score]:
        return {score.name: score for score in scores}


def _one_value_per_record(trial: _Trial) -> None:
    """It gives at least one score, and each has one finite value per record, without a graph, on the CPU."""
    scores = list(trial.metric(trial.guess, trial.truth, trial.labels, trial.context))
    assert scores, "no score"
    names = [score.name for score in scores]
    assert len(set(names)) == len(names), f"a name is given twice: {names}"
    for score in scores:
        values = score.values
        assert values.shape == (4,), f"'{score.name}' has shape {tuple(values.shape)}, expected (4,)"
        assert values.is_floating_point(), f"'{score.name}' is {values.dtype}"
        assert not values.requires_grad, f"'{score.name}' carries a graph"
        assert values.device.type == "cpu", f"'{score.name}' is on {values.device}"
        assert bool(torch.isfinite(values).all()), f"'{score.name}' is not finite: {values.tolist()}"


def _perfect_is_finite(trial: _Trial) -> None:
    """A perfect reconstruction has finite values."""
    for score in trial.score(trial.truth).values():
        assert bool(torch.isfinite(score.values).all()), f"'{score.name}': {score.values.tolist()}"


def _direction(trial: _Trial) -> None:
    """By the stated direction, the truth itself leaks at least as much as another film, for every record."""
    perfect, other = trial.score(trial.truth), trial.score(specimens.films(4, trial.shape, "other"))
    for name, score in perfect.items():
        gain = score.values - other[name].values
        gain = gain if score.larger_leaks_more else -gain
        assert bool((gain >= 0).all()), f"'{name}': the truth minus another film, by direction: {gain.tolist()}"


def _record_by_record(trial: _Trial) -> None:
    """A record's value does not depend on the others in the batch."""
    together = trial.score(trial.guess)
    for place in range(4):
        part = slice(place, place + 1)
        alone = trial.by_name(trial.metric(trial.guess[part], trial.truth[part], trial.labels[part], trial.context))
        for name, score in together.items():
            left, right = score.values[place].item(), alone[name].values[0].item()
            assert abs(left - right) <= 1e-3 * max(1.0, abs(left)), f"'{name}' of record {place}: {left} and {right}"


def _is_deterministic(trial: _Trial) -> None:
    """It uses no randomness, and what it caches does not change the result."""
    context = trial.context
    with global_randomness_untouched():
        runs = [trial.by_name(trial.metric(trial.guess, trial.truth, trial.labels, context)).items() for _ in range(2)]
    first, second = ({name: score.values for name, score in run} for run in runs)
    assert_same(first, second, "two runs")


def _keeps_input(trial: _Trial) -> None:
    """Guess, truth, labels and the context's films are not changed."""
    context = trial.context
    given = {
        "guess": trial.guess,
        "truth": trial.truth,
        "labels": trial.labels,
        "gallery": context.gallery,
        "gallery_labels": context.gallery_labels,
        "mean_film": context.mean_film,
    }
    before = clone(given)
    list(trial.metric(given["guess"], given["truth"], given["labels"], context))
    assert_same(before, given, "the input")


_CHECKS = (_one_value_per_record, _perfect_is_finite, _direction, _record_by_record, _is_deterministic, _keeps_input)
