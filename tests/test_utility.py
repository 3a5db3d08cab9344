"""The measures of a classifier against independent values, their undefined cases, and their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score

from gradiograph.core.predictions import Predictions
from gradiograph.core.seeds import numpy_stream
from gradiograph.utility import MEASURES, estimate, estimate_loss


def make(size=200, skill=1.0, classes=2, films_per_patient=1, seed=0):
    rng = numpy_stream(seed, "utility test")
    labels = rng.integers(classes, size=size)
    logits = rng.normal(size=(size, classes)) + skill * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    patients = np.array([f"patient{place // films_per_patient}" for place in range(size)])
    return Predictions(labels=labels, probabilities=probabilities, patients=patients, sites=np.arange(size) % 3)


def value(name, predictions):
    return MEASURES[name](predictions)


def test_auroc_is_the_probability_of_the_right_order():
    found = make()
    score, positive = found.probabilities[:, 1], found.labels == 1
    expected = mannwhitneyu(score[positive], score[~positive]).statistic / (positive.sum() * (~positive).sum())
    assert value("auroc", found) == pytest.approx(expected)


def test_auprc_is_the_mean_precision_at_the_positives():
    found = make()
    order = np.argsort(-found.probabilities[:, 1])
    hits = found.labels[order] == 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    assert value("auprc", found) == pytest.approx(precision[hits].mean())


def test_sensitivity_is_that_of_the_best_threshold_with_specificity_of_at_least_90_percent():
    found = make()
    score, positive = found.probabilities[:, 1], found.labels == 1
    best = max(
        np.mean(score[positive] >= threshold)
        for threshold in [*score, np.inf]
        if np.mean(score[~positive] < threshold) >= 0.9
    )
    assert value("sensitivity_at_90", found) == pytest.approx(best)


def test_balanced_accuracy_and_brier_are_those_of_scikit_learn():
    found = make()
    score = found.probabilities[:, 1]
    assert value("balanced_accuracy", found) == pytest.approx(balanced_accuracy_score(found.labels, score > 0.5))
    assert value("brier", found) == pytest.approx(brier_score_loss(found.labels, score))


def test_calibration_error_is_zero_for_honest_probabilities_and_the_gap_for_others():
    honest = np.concatenate([[1] * 7 + [0] * 3, [0] * 9 + [1]])
    probabilities = np.array([[0.3, 0.7]] * 10 + [[0.9, 0.1]] * 10)
    base = make(20)
    found = Predictions(labels=honest, probabilities=probabilities, patients=base.patients, sites=base.sites)
    assert value("ece", found) == pytest.approx(0.0)
    sure = Predictions(labels=honest, probabilities=np.eye(2)[[1] * 20], patients=base.patients, sites=base.sites)
    assert value("ece", sure) == pytest.approx(12 / 20)


@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_those_of_scikit_learn(ties):
    found = make(150)
    probabilities = np.round(found.probabilities, 1) if ties else found.probabilities
    found = replace(found, probabilities=probabilities)
    weights = numpy_stream(5, "weights").integers(0, 4, size=(6, 150)).astype(float)
    score = probabilities[:, 1]
    for name, reference in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        expected = [reference(found.labels, score, sample_weight=row) for row in weights]
        np.testing.assert_allclose(MEASURES[name].weighted(found, weights), expected)
    for name, measure in MEASURES.items():
        repeated = [measure(found.take(np.repeat(np.arange(150), row.astype(int)))) for row in weights]
        np.testing.assert_allclose(measure.weighted(found, weights), repeated, err_msg=name)


def test_more_classes_are_each_against_the_rest():
    found = make(classes=3, size=400)
    one = [mannwhitneyu(found.probabilities[found.labels == k, k], found.probabilities[found.labels != k, k])
           for k in range(3)]  # fmt: skip
    sizes = [np.sum(found.labels == k) * np.sum(found.labels != k) for k in range(3)]
    assert value("auroc", found) == pytest.approx(np.mean([u.statistic / s for u, s in zip(one, sizes, strict=True)]))


@pytest.mark.parametrize("name", MEASURES)
def test_films_of_one_class_leave_a_measure_undefined_and_say_why(name):
    found = make()
    one = found.take(found.labels == 1)
    result = estimate([one], MEASURES[name], replicates=20)
    if MEASURES[name].needs_classes:
        assert (result.value, result.low, result.undefined) == (None, None, "films of 1 of 2 classes")
    else:
        assert result.low <= result.value <= result.high
    assert estimate([found.take(found.labels == 7)], MEASURES[name]).undefined == "no films"


def test_a_resample_of_one_class_is_left_out_of_the_interval():
    few = make(4)
    few = Predictions(labels=np.array([0, 0, 0, 1]), probabilities=few.probabilities, patients=few.patients,
                      sites=few.sites)  # fmt: skip
    result = estimate([few], MEASURES["auroc"], replicates=60)
    assert 0 <= result.low <= result.value <= result.high <= 1


def test_the_interval_of_auroc_covers_as_hanley_and_mcneil_say():
    found = make(400, skill=1.5)
    result = estimate([found], MEASURES["auroc"])
    auc, positive = result.value, int(found.labels.sum())
    negative = 400 - positive
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = np.sqrt((auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2))
                     / (positive * negative))  # fmt: skip
    assert result.high - result.low == pytest.approx(2 * 1.96 * spread, rel=0.25)


def test_intervals_resample_patients_not_films():
    """The same film five times of each patient tells no more than once."""
    once = make(80)
    copies = np.repeat(np.arange(80), 5)
    alone, repeated = (estimate([p], MEASURES["brier"]) for p in (once, once.take(copies)))
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.2)


def test_the_loss_is_read_on_the_same_patients_so_that_equal_models_lose_nothing():
    better, worse = make(300, skill=3.0), make(300, skill=3.0)
    assert estimate_loss([better], [worse], MEASURES["auroc"]).high == 0
    blurred = Predictions(labels=worse.labels, probabilities=0.5 * worse.probabilities + 0.25,
                          patients=worse.patients, sites=worse.sites)  # fmt: skip
    assert estimate_loss([better], [blurred], MEASURES["brier"], replicates=50).low > 0
    assert estimate_loss([blurred], [better], MEASURES["brier"], replicates=50).high < 0
    with pytest.raises(ValueError, match="different films"):
        estimate_loss([better], [make(299)], MEASURES["auroc"])


def test_seeds_that_differ_widen_the_interval():
    rng = numpy_stream(3, "seeds")
    base = make(400, skill=2.0)
    noisy = [
        Predictions(
            labels=base.labels,
            probabilities=np.clip(base.probabilities * [1, w], 0.001, 0.999),
            patients=base.patients,
            sites=base.sites,
        )
        for w in rng.uniform(0.2, 1.0, size=3)
    ]
    several = estimate(noisy, MEASURES["brier"])
    single = estimate(noisy[:1], MEASURES["brier"])
    assert several.value == pytest.approx(np.mean([MEASURES["brier"](p) for p in noisy]))
    assert several.high - several.low > 1.5 * (single.high - single.low)
