"""How good a classifier is: by its ranking, at a working point, by its calibration. For masks see `overlap`.

For two classes the score is the probability of the second one; for more, the mean of each class against the rest.
Every measure takes weights of the films, many sets of them at once: a resample of patients is a set of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradiograph.core.predictions import Predictions
from gradiograph.utility.measure import Floats, Measure

if TYPE_CHECKING:
    from gradiograph.core.predictions import Judged

SPECIFICITY = 0.9
"""The specificity at which the sensitivity is read."""
BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True)
class ClassMeasure(Measure):
    """One number for the predictions of a classifier, in [0, 1]; see `Measure`.

    Attributes:
        needs_classes: Undefined where the films are not of every class.
        compute: Labels (N,), probabilities (N, K) and weights (R, N) -> (R,).
    """

    needs_classes: bool
    compute: Callable[[NDArray[np.int64], Floats, Floats], Floats] = field(repr=False)

    def undefined(self, judged: Judged) -> str:
        """Why there is no value; empty where there is one."""
        predictions = _of_classes(judged)
        classes, found = predictions.probabilities.shape[1], len(np.unique(predictions.labels))
        if not len(predictions):
            return "no films"
        if self.needs_classes and found < classes:
            return f"films of {found} of {classes} classes"
        return ""

    def weighted(self, judged: Judged, weights: Floats) -> Floats:
        """The value under each set of weights; NaN where the films with one are not of every class that is needed."""
        predictions = _of_classes(judged)
        values = self.compute(predictions.labels, predictions.probabilities, weights)
        if not self.needs_classes:
            return values
        classes = np.eye(predictions.probabilities.shape[1])[predictions.labels]
        return np.where((weights @ classes > 0).all(axis=1), values, np.nan)


def _of_classes(judged: Judged) -> Predictions:
    if not isinstance(judged, Predictions):
        msg = f"A measure of classifiers does not judge {type(judged).__name__}."
        raise TypeError(msg)
    return judged


def ranking(score: Callable[[Floats, Floats], Floats]) -> Callable[[NDArray[np.int64], Floats, Floats], Floats]:
    """A score of the weights found and of the false alarms at each threshold, as a measure of K classes."""

    def compute(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
        count = probabilities.shape[1]
        chosen = [1] if count == 2 else range(count)
        values = [score(*_curve(labels == k, probabilities[:, k], weights)) for k in chosen]
        return np.asarray(np.mean(values, axis=0))

    return compute


def _curve(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the positives and of the negatives at or above each distinct score, the largest first: (R, G) each."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    ranked, hits = weights[:, order], positive[order]
    return np.cumsum(ranked * hits, axis=1)[:, ends], np.cumsum(ranked * ~hits, axis=1)[:, ends]


def area_under_roc(found: Floats, alarms: Floats) -> Floats:
    """The probability that a positive film has the larger score than a negative one; ties count half."""
    mean = found - np.diff(found, axis=1, prepend=0) / 2
    return _share((mean * np.diff(alarms, axis=1, prepend=0)).sum(axis=1), found[:, -1] * alarms[:, -1])


def average_precision(found: Floats, alarms: Floats) -> Floats:
    """The area under the precision-recall curve as a sum of steps: the mean precision at the positives."""
    precision = _share(found, found + alarms)
    return _share((precision * np.diff(found, axis=1, prepend=0)).sum(axis=1), found[:, -1])


def sensitivity(found: Floats, alarms: Floats) -> Floats:
    """The largest sensitivity of a threshold whose specificity, on the same films, is at least `SPECIFICITY`."""
    allowed = alarms <= (1 - SPECIFICITY) * alarms[:, -1:] + 1e-9
    return _share(np.where(allowed, found, 0.0).max(axis=1), found[:, -1])


def balanced_accuracy(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """The mean over the classes of the share of their films that get the largest probability for their own class."""
    classes = np.eye(probabilities.shape[1])[labels]
    right = (probabilities.argmax(axis=1) == labels)[:, None] * classes
    return np.asarray(_share(weights @ right, weights @ classes).mean(axis=1))


def calibration_error(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """The expected calibration error of the most probable class, in bins of equal width that are open on the left.

    Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    confidence = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    by_bin = weights @ (gaps[:, None] * np.eye(BINS)[places])
    return np.asarray(np.abs(by_bin).sum(axis=1) / weights.sum(axis=1))


def brier(labels: NDArray[np.int64], probabilities: Floats, weights: Floats) -> Floats:
    """Half the mean squared distance of the probabilities from the truth: (p - y)^2 for two classes (Brier 1950)."""
    distance = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1) / 2
    return np.asarray(weights @ distance / weights.sum(axis=1))


def _share(part: Floats, whole: Floats) -> Floats:
    """Part over whole, 0 where the whole is 0: what that means is for the caller to say."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _measure(name: str, title: str, compute: Callable[[NDArray[np.int64], Floats, Floats], Floats]) -> ClassMeasure:
    by_class = compute not in (calibration_error, brier)
    return ClassMeasure(name=name, title=title, larger_is_better=by_class, needs_classes=by_class, compute=compute)


_ALL = (
    _measure("auroc", "AUROC", ranking(area_under_roc)),
    _measure("auprc", "AUPRC", ranking(average_precision)),
    _measure("balanced_accuracy", "Balanced accuracy", balanced_accuracy),
    _measure("sensitivity_at_90", "Sensitivity at 90 % specificity", ranking(sensitivity)),
    _measure("ece", "Calibration error", calibration_error),
    _measure("brier", "Brier score", brier),
)

MEASURES = {measure.name: measure for measure in _ALL}
"""All measures, by name."""
