"""Every rule of the lint on a guilty and an innocent set-up; no rule without both."""

from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from dp_accounting.pld.common import DifferentialPrivacyParameters
from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

from gradiograph.accounting import Setup, gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier, lint, rules
from gradiograph.accounting.lint import rule

CASES = {
    "DP01": ({"accountant": "restarted", "rounds": 20}, {"accountant": "kept", "rounds": 20}, "20 rounds"),
    "DP02": (
        {"sampling": "shuffled", "accounted_sampling": "poisson"},
        {"sampling": "poisson", "accounted_sampling": "poisson"},
        "shuffled",
    ),
    "DP03": (
        {"noise_divided_by": "clients", "weighting": "reported", "clients": 4, "largest_weight": 0.7},
        {"noise_divided_by": "clients", "weighting": "equal", "clients": 4, "largest_weight": 0.25},
        "2.8 times",
    ),
    "DP04": (
        {"clipped": True, "sensitivity_per_clip": 1.0, "neighbours": "replace"},
        {"clipped": True, "sensitivity_per_clip": 2.0, "neighbours": "replace"},
        "2 times as large",
    ),
    "DP05": (
        {"formula": "classical", "epsilon": 12.0, "delta": 1e-5},
        {"formula": "exact", "epsilon": 12.0, "delta": 1e-5},
        "epsilon = 13.1",
    ),
    "DP06": (
        {"formula": "classical", "epsilon": 0.5, "delta": 1e-5},
        {"formula": "exact", "epsilon": 0.5, "delta": 1e-5},
        "7.03 times is enough",
    ),
    "DP07": ({"statistics": ("BatchNorm2d",)}, {"statistics": ()}, "BatchNorm2d"),
    "DP08": ({"ranges": ("update_norm",)}, {"ranges": ()}, "update_norm"),
    "DP09": ({"counts": ("train_loss", "accuracy")}, {"counts": ()}, "train_loss, accuracy"),
    "DP10": ({"noise_on": "data"}, {"noise_on": "fixed"}, "selected"),
    "DP11": ({"noiseless": ("percentile",)}, {"noiseless": ()}, "compression"),
    "DP12": (
        {"unit": "slice", "images_per_patient": 40, "epsilon": 2.0},
        {"unit": "patient", "images_per_patient": 40, "epsilon": 2.0},
        "40 x 2 = 80",
    ),
    "DP13": ({"delta": 0.01, "units": 100}, {"delta": 1e-5, "units": 100}, "1/n = 0.01"),
    "DP16": ({"epsilon": 1.0, "accounted": 6.0}, {"epsilon": 1.0, "accounted": 1.005}, "makes it 6"),
    "DP15": (
        {"sends_size": True, "neighbours": "add_or_remove"},
        {"sends_size": True, "neighbours": "replace"},
        "replacing one",
    ),
    "DP14": ({"fixed_seed": True}, {"fixed_seed": False}, "subtracts"),
}


def test_every_rule_has_a_case():
    assert set(CASES) == {each.id for each in rules()}


@pytest.mark.parametrize("identifier", CASES)
def test_guilty_and_innocent(identifier):
    guilty, innocent, told = CASES[identifier]
    (found,) = lint([Setup(where="here", **guilty)]).findings
    assert found.rule.id == identifier
    assert found.where == "here"
    assert told in found.message
    assert not lint([Setup(where="here", **innocent)]).findings


@pytest.mark.parametrize("each", rules(), ids=lambda each: each.id)
def test_every_rule_is_documented(each):
    assert each.summary.endswith(".")
    assert each.reference
    assert each.severity in ("error", "warning")
    assert each.needs


def test_a_rule_that_lacks_a_fact_is_named_and_silent():
    found = lint([Setup(where="here", delta=0.5)])
    assert not found.findings
    assert found.unchecked["DP13"] == ("units",)
    assert "DP13" not in lint([Setup(where="a", delta=0.5), Setup(where="b", delta=1e-6, units=9)]).unchecked


def test_errors_come_first():
    found = lint([Setup(where="here", delta=0.5, units=9, noise_on="data")])
    assert [finding.rule.severity for finding in found.findings] == ["error", "warning"]
    assert found.errors == 1


@pytest.mark.parametrize("facts", [{"clipped": False}, {"clipped": True, "sensitivity_follows_clip": False}])
def test_other_ways_of_a_sensitivity_that_no_clip_bounds(facts):
    assert [finding.rule.id for finding in lint([Setup(where="here", **facts)]).findings] == ["DP04"]


def test_one_round_needs_no_composition():
    assert not lint([Setup(where="here", accountant="restarted", rounds=1)]).findings


@pytest.mark.parametrize(("epsilon", "expected"), [(0.1, "DP06"), (5.0, "DP06"), (8.0, "DP06"), (9.0, "DP05")])
def test_classical_formula_is_too_quiet_only_for_large_epsilon(epsilon, expected):
    """At delta = 1e-5 the two formulas meet between epsilon 8 and 9."""
    found = lint([Setup(where="here", formula="classical", epsilon=epsilon, delta=1e-5)]).findings
    assert [finding.rule.id for finding in found] == [expected]


def test_weighted_mean_is_as_much_too_quiet_as_the_rule_says():
    """Noise sigma C / m on a mean with weights w: the most that a client moves it, over what the noise is scaled to."""
    weights, clip = np.array([0.7, 0.1, 0.1, 0.1]), 1.0
    scaled_to = clip / len(weights)
    removed = weights[0] * clip
    assert removed / scaled_to == pytest.approx(2.8)
    others = weights[1:] / weights[1:].sum()
    renormalised = abs(weights @ np.array([clip, -clip, -clip, -clip]) - others @ np.array([-clip] * 3))
    assert renormalised / scaled_to == pytest.approx(2 * 2.8)


def test_a_rule_asks_for_facts_only():
    with pytest.raises(ValueError, match="no fact"):
        rule("DP99", "none", severity="error", reference="none")(lambda *, colour: colour)
    with pytest.raises(ValueError, match="registered twice"):
        rule("DP01", "none", severity="error", reference="none")(lambda *, delta: delta)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 30.0])
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
def test_exact_gaussian_against_google(epsilon, delta):
    theirs = GaussianPrivacyLoss.from_privacy_guarantee(DifferentialPrivacyParameters(epsilon, delta))
    ours = gaussian_noise_multiplier(epsilon, delta)
    assert ours == pytest.approx(theirs.standard_deviation, rel=1e-4)
    assert gaussian_epsilon(ours, delta) == pytest.approx(epsilon, rel=1e-6)
    assert gaussian_delta(epsilon, ours) == pytest.approx(delta, rel=1e-6)


def test_exact_gaussian_at_the_ends():
    assert gaussian_epsilon(0.0, 1e-5) == np.inf
    assert gaussian_epsilon(1e9, 1e-5) == 0.0
    assert gaussian_noise_multiplier(1e4, 1e-5) < gaussian_noise_multiplier(1e3, 1e-5) < sqrt(2 * log(1.25e5)) / 1e2


def test_the_page_has_every_rule():
    page = (Path(__file__).parents[1] / "docs" / "lint.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith("| DP")]
    assert table == [f"| {r.id} | {r.name} | {r.severity} | {r.summary} | {r.reference} |" for r in rules()]
