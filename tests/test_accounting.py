"""Budgets against published and library values, against each other, and against the distributions that they are of."""

import json
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import gaussian_mechanism
from scipy.stats import norm
from typer.testing import CliRunner

from gradiograph import accounting
from gradiograph.accounting import (
    Spend,
    account,
    budget_identification,
    calibrated_noise,
    gaussian_identification,
    identification_bound,
    membership_advantage,
    renyi_identification,
    revealed_epsilon,
)
from gradiograph.accounting.account import EXACT, LARGE, PLD, PRV, RDP_GOOGLE, RDP_OPACUS, epsilons, group_epsilon
from gradiograph.accounting.accountants import pld_deltas, pld_epsilon, prv_epsilon, rdp_epsilons
from gradiograph.audit import ledgers
from gradiograph.cli import app
from gradiograph.core.errors import BadSetting
from gradiograph.core.privacy import PrivacyEvent


def spend(noise, rate=1.0, count=1):
    return [Spend(noise_multiplier=noise, sample_rate=rate, count=count)]


def event(**settings):
    return PrivacyEvent(**{"units": 1000, "noise_multiplier": 1.0, "delta": 1e-5, **settings})


# Published and library values, to one percent


@pytest.mark.parametrize(
    ("noise", "rate", "count", "epsilon"),
    [
        (1.5, 0.04, 2249, 6.7774),  # Opacus 1.6, accountants_test.py: test_prv_accountant
        (1.34765625, 0.04, 2250, 8.0),  # there: get_noise_multiplier, prv, 90 epochs
        (1.2915, 0.04, 2000, 8.0),  # there: get_noise_multiplier, prv, 2000 steps
    ],
)
def test_numerical_accountants_give_opacus_values(noise, rate, count, epsilon):
    found = spend(noise, rate, count)
    assert prv_epsilon(found, 1e-5) == pytest.approx(epsilon, rel=0.01)
    assert pld_epsilon(found, 1e-5, interval=1e-3) == pytest.approx(epsilon, rel=0.01)


def test_koskela_jaelkoe_honkela_2019():
    """arXiv 1906.03049, the example of their accountant: delta(1.0) = 4.2435e-6 for sigma 4, q 0.01, 10^4 steps.

    The example prints 1000 steps; for these delta is below 1e-14 by every accountant.
    """
    found = spend(4.0, 0.01, 10_000)
    assert float(pld_deltas(found, np.ones(1), interval=1e-4)[0]) == pytest.approx(4.243484e-6, rel=0.01)
    assert prv_epsilon(found, 4.243484e-6) == pytest.approx(1.0, rel=0.011)


@pytest.mark.parametrize(
    ("noise", "rate", "count", "epsilon"),
    [
        (1.5, 0.04, 2250, 7.3291),  # Opacus: test_rdp_accountant
        (1.416, 0.04, 2250, 8.0),  # Opacus: get_noise_multiplier, rdp, 90 epochs
        (1.3562, 0.04, 2000, 8.0),  # Opacus: get_noise_multiplier, rdp, 2000 steps
    ],
)
def test_moments_accountants_give_published_values(noise, rate, count, epsilon):
    """To 1 % of what was published; a finer grid of orders gives a little less, and never more."""
    for found in rdp_epsilons(spend(noise, rate, count), 1e-5):
        assert found == pytest.approx(epsilon, rel=0.01)


@pytest.mark.parametrize(
    ("noise", "delta"), [(3.7304, 1e-5), (1.0, 1e-5), (0.5, 1e-3), (0.05, 1e-6), (1e-3, 1e-5), (1e-5, 1e-5)]
)
def test_the_exact_gaussian_is_that_of_dp_accounting(noise, delta):
    expected = gaussian_mechanism.get_epsilon_gaussian(noise, delta)
    assert epsilons(spend(noise), delta)[1][EXACT] == pytest.approx(expected, rel=1e-6)


# With each other as theory says


@pytest.mark.parametrize(("noise", "rate", "count"), [(0.7, 0.02, 400), (2.0, 0.1, 300), (1.0, 1.0, 10)])
def test_two_accountants_agree_and_the_moments_are_above_them(noise, rate, count):
    found = spend(noise, rate, count)
    kind, values = epsilons(found, 1e-5)
    assert kind == ("exact" if rate == 1 else "tight")
    assert values[PRV] == pytest.approx(values[PLD], rel=0.01)
    assert all(values[PLD] <= loose + 1e-6 for loose in rdp_epsilons(found, 1e-5))
    assert values[PLD] <= revealed_epsilon(found, 1e-5) + 1e-6
    if rate == 1:
        assert values[PLD] == pytest.approx(values[EXACT], rel=1e-4)


def test_large_budgets_get_a_loose_upper_bound_and_a_closer_one():
    found = spend(0.05, 0.025, 400)
    kind, values = epsilons(found, 1e-5)
    assert kind == "loose upper bound"
    assert set(values) == {RDP_OPACUS, RDP_GOOGLE, "sampling revealed"}
    truth = pld_epsilon(found, 1e-5, interval=0.1)
    assert truth > LARGE
    assert truth <= min(values.values()) <= 1.05 * truth
    assert values[RDP_OPACUS] > 1.05 * truth
    assert revealed_epsilon(spend(1e-4, 0.025, 800), 1e-5) < 0.1 * min(rdp_epsilons(spend(1e-4, 0.025, 800), 1e-5))


def test_revealed_is_exact_without_sampling_and_for_different_mechanisms():
    assert revealed_epsilon(spend(0.01, 1.0, 7), 1e-5) == pytest.approx(
        gaussian_mechanism.get_epsilon_gaussian(0.01 / 7**0.5, 1e-5), rel=1e-6
    )
    mixed = [*spend(0.5, 0.1, 900), *spend(2.0, 0.3, 700)]
    coarse = revealed_epsilon(mixed, 1e-5)
    assert pld_epsilon(mixed, 1e-5, interval=1e-2) < coarse
    assert coarse > revealed_epsilon(mixed[:1], 1e-5)


def test_rounds_compose_and_sites_run_in_parallel():
    """20 rounds of 5 steps are 100 steps; two sites with disjoint patients do not add up."""
    rounds = [event(noise_multiplier=3.0, sample_rate=0.1, steps=5, rounds=20, site=site) for site in ("a", "b")]
    first, second = account(rounds)
    assert (first.site, second.site) == ("a", "b")
    assert first.epsilon == second.epsilon == pld_epsilon(spend(3.0, 0.1, 100), 1e-5)
    assert first.epsilon > account([event(noise_multiplier=3.0, sample_rate=0.1, steps=5)])[0].epsilon * 2


def test_a_group_costs_more_by_the_rule_of_its_mechanism():
    assert group_epsilon(spend(3.0), 1e-5, 3) == pytest.approx(epsilons(spend(1.0), 1e-5)[1][EXACT])
    (found,) = account([event(noise_multiplier=1.5, sample_rate=0.05, steps=20, group=3)])
    together = pld_epsilon(spend(0.5, 1 - 0.95**3, 20), 1e-5, interval=1e-3)
    assert 2.5 * found.epsilon < found.group_epsilon < together


def test_without_noise_there_is_no_epsilon():
    (found,) = account([event(noise_multiplier=0.0)])
    assert (found.kind, found.epsilon, found.values) == ("no noise", float("inf"), {})


@pytest.mark.parametrize("epsilon", [1.0, 8.0, 1e4, 1e9])
def test_the_calibrated_noise_spends_the_budget_and_no_more(epsilon):
    count = tuple(spend(1.0, 0.05, 100))
    noise = calibrated_noise(count, epsilon, 1e-5)
    found = min(epsilons(spend(noise, 0.05, 100), 1e-5)[1].values())
    assert 0.99 * epsilon <= found <= epsilon * 1.001
    assert calibrated_noise(tuple(spend(1.0, 1.0, 4)), 1.0, 1e-5) == pytest.approx(2 * 3.7304, rel=1e-3)


# What it means


def test_the_bound_on_identification_is_the_power_of_the_best_test():
    """Hayes et al. 2023, algorithm 1: the likelihood ratio's power at false positive rate 1 / N, drawn."""
    noise, rate, count, films, draws = 0.8, 0.3, 8, 20, 60_000
    rng = np.random.default_rng(0)
    absent = rng.normal(0, noise, (draws, count))
    present = rng.normal(0, noise, (draws, count)) + (rng.random((draws, count)) < rate)

    def ratio(seen):
        return np.log(1 - rate + rate * np.exp((seen - 0.5) / noise**2)).sum(axis=1)

    power = np.mean(ratio(present) > np.quantile(ratio(absent), 1 - 1 / films))
    assert identification_bound(spend(noise, rate, count), films) == pytest.approx(power, abs=0.012)
    advantage = np.mean(ratio(present) > 0) - np.mean(ratio(absent) > 0)
    assert membership_advantage(spend(noise, rate, count)) == pytest.approx(advantage, abs=0.012)


def test_no_attacker_on_a_gaussian_release_beats_the_bound():
    """N films, each a direction of length 1 in noise: the best guess is the largest, and stays below the bound."""
    films, noise = 10, 0.7
    rng = np.random.default_rng(1)
    seen = rng.normal(0, noise, (100_000, films))
    seen[:, 0] += 1
    found, bound = np.mean(seen.argmax(axis=1) == 0), identification_bound(spend(noise), films)
    assert 1 / films < found <= bound
    assert bound == pytest.approx(norm.cdf(norm.ppf(0.1) + 1 / 0.7))


def test_bounds_from_less_knowledge_are_looser_and_none_is_below_a_guess():
    for noise in (0.3, 1.0, 3.0):
        sharp = gaussian_identification(noise, 100)
        (budget,) = [value for name, value in epsilons(spend(noise), 1e-5)[1].items() if name == EXACT]
        assert 0.01 <= sharp <= renyi_identification(spend(noise), 100) <= 1
        assert sharp <= budget_identification(budget, 1e-5, 100) <= 1
    many = [identification_bound(spend(noise, 0.1, 50), 50) for noise in (0.05, 0.5, 5.0, 500.0)]
    assert all(first >= second for first, second in pairwise(many))
    assert many[-1] == pytest.approx(1 / 50, rel=0.01)
    assert membership_advantage(spend(1.0)) == pytest.approx(2 * norm.cdf(0.5) - 1)


# On disk and on the command line


LEDGER = """
[[events]]
units = 500
noise_multiplier = 1.1
sample_rate = 0.02
steps = 5
rounds = 10
delta = 1e-5
claimed = {claimed}
"""


def test_events_go_to_disk_and_back():
    written = (event(), event(site="site 1", unit="patient", claimed=8.0))
    assert accounting.read_ledger(json.loads(accounting.write_ledger(written))) == written


@pytest.mark.parametrize(("claimed", "code"), [(8.0, 0), (0.3, 1)])
def test_account_prints_both_accountants_the_unit_and_whether_the_claim_holds(tmp_path, claimed, code):
    path = tmp_path / "events.toml"
    path.write_text(LEDGER.format(claimed=claimed))
    result = CliRunner().invoke(app, ["account", str(path)], env={"COLUMNS": "250"})
    assert result.exit_code == code, result.output
    assert ("UNTRUE" in result.output) == (code == 1)
    for told in ("Opacus PRV", "dp-accounting PLD", "of one image", "Shown 100 films", "guessing gives 1.0%"):
        assert told in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("events = []", "has no events"),
        ("[[events]]\nunits = 5\nnoise_multiplier = 1.0", "Event 1: 'delta'"),
        ("[[events]]\nunits = 5\nnoise_multiplier = -1.0\ndelta = 1e-5", "'noise_multiplier' is refused"),
        ("[[events]]\nunits = 5\nnoise_multiplier = 1.0\ndelta = 1e-5\nrate = 1", "Event 1: 'rate'"),
        ("not toml", "neither valid TOML nor"),
    ],
)
def test_a_file_that_is_none_says_what_lacks(tmp_path, text, told):
    path = tmp_path / "events.toml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=told):
        ledgers(path)
