"""Summaries, intervals and paired differences on cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiograph.core.records import Row
from gradiograph.core.seeds import numpy_stream
from gradiograph.report.statistics import Film, Key, by_leakage, collect, difference, summary
from gradiograph.report.wording import chance, number, share


def rows(values, *, metric="psnr", control="none", larger=True, attack="rog"):
    """Rows of (batch, record, seed) -> value."""
    return [
        Row(
            task="t",
            protocol="p",
            defence="none",
            attack=attack,
            control=control,
            batch=batch,
            seed=seed,
            record=record,
            metric=metric,
            value=float(value),
            larger_leaks_more=larger,
        )
        for (batch, record, seed), value in values.items()
    ]


def values_of(values, **key):
    (found,) = collect(rows(values, **key)).values()
    return found


def one_batch(numbers):
    return {(0, f"r{place:03}", 7): value for place, value in enumerate(numbers)}


def test_seeds_are_averaged_before_the_worst_film_is_sought():
    data = {(0, "a", 7): 40.0, (0, "a", 8): 10.0, (0, "b", 7): 30.0, (0, "b", 8): 28.0, (1, "c", 7): 1.0}
    found = summary(values_of(data))
    assert (found.worst, found.worst_film) == (29.0, Film(0, "b"))
    assert (found.median, found.interval.mean) == (25.0, pytest.approx(55 / 3))
    assert (found.films, found.batches, found.seeds) == (3, 2, 2)


def test_the_worst_film_follows_the_direction_of_the_metric():
    data = one_batch([0.1, 0.5])
    assert summary(values_of(data, metric="lpips", larger=False)).worst == 0.1
    assert summary(values_of(data, metric="ssim")).worst == 0.5


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    generator = numpy_stream(1, "coverage")
    covered = 0
    for _ in range(300):
        found = summary(values_of(one_batch(generator.normal(5.0, 2.0, size=40)))).interval
        covered += found.low <= 5.0 <= found.high
    # 95 % nominal; the percentile bootstrap of 40 films reaches about 93 to 94 %; three standard errors are 4 %.
    assert 0.89 <= covered / 300 <= 0.99


def test_batches_are_resampled_as_wholes():
    # Films of a batch agree: the batches carry all the variance, so two batches say far less than twenty films.
    clustered = {(batch, f"{batch}{film}", 7): float(batch) for batch in range(2) for film in range(10)}
    single = {(0, record, seed): value for (_, record, seed), value in clustered.items()}
    wide, narrow = (summary(values_of(data)).interval for data in (clustered, single))
    assert (wide.low, wide.high) == (0.0, 1.0)
    assert narrow.high - narrow.low < 0.5


def test_films_within_a_batch_are_resampled_too():
    found = summary(values_of(one_batch([0.0, 1.0]))).interval
    assert (found.low, found.mean, found.high) == (0.0, 0.5, 1.0)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_the_interval_lies_within_the_values_and_holds_the_mean(numbers):
    found = summary(values_of(one_batch(numbers))).interval
    slack = 1e-9
    assert min(numbers) - slack <= found.low <= found.mean + slack
    assert found.mean - slack <= found.high <= max(numbers) + slack


def test_statistics_are_deterministic_and_do_not_depend_on_the_order_of_rows():
    data = rows({(batch, f"{batch}{film}", 7): film**2 for batch in range(3) for film in range(4)})
    (first,), (second,) = (collect(order).values() for order in (data, data[::-1]))
    assert summary(first) == summary(second)


@pytest.mark.parametrize(("n", "bound"), [(100, 0.03), (8, 0.375), (2, 1.0)])
def test_none_of_n_means_at_most_three_over_n(n, bound):
    found = summary(values_of(one_batch([0.0] * n), metric="identification_top1"))
    assert (found.interval.low, found.interval.mean, found.interval.high) == (0.0, 0.0, pytest.approx(bound))
    assert share(found) == f"0 of {n} films (so at most {100 * bound:.0f} %)"


def test_a_film_in_two_batches_counts_once_in_the_rule_of_three():
    data = {(batch, record, 7): 0.0 for batch in range(3) for record in "abcde"}
    assert summary(values_of(data, metric="identification_top1")).interval.high == pytest.approx(3 / 5)


def test_all_of_n_has_the_exact_bound():
    found = summary(values_of(one_batch([1.0] * 8), metric="identification_top1")).interval
    assert (found.low, found.high) == (pytest.approx(0.05 ** (1 / 8)), 1.0)


def test_the_rules_for_shares_do_not_touch_other_metrics():
    found = summary(values_of(one_batch([1.0] * 4), metric="ssim")).interval
    assert (found.low, found.high) == (1.0, 1.0)


def test_the_difference_is_paired():
    # The films differ much, the attack adds 1 to each: only pairing can see it.
    control = values_of(one_batch([0.0, 50.0, 100.0, 150.0]), control="mismatched_update")
    attack = values_of(one_batch([1.0, 51.0, 101.0, 151.2]))
    found = difference(attack, control)
    assert found.leaks
    assert found.interval.mean == pytest.approx(1.05)
    assert summary(attack).interval.low < summary(control).interval.high
    assert not difference(control, attack).leaks


def test_the_difference_of_a_metric_where_small_leaks_has_the_other_sign():
    control = values_of(one_batch([0.4, 0.5, 0.6]), metric="lpips", larger=False, control="mismatched_update")
    attack = values_of(one_batch([0.1, 0.1, 0.2]), metric="lpips", larger=False)
    assert difference(attack, control).leaks
    assert not difference(control, attack).leaks


def test_the_difference_of_shares_is_exact_where_all_films_agree():
    none, everyone = (values_of(one_batch([value] * 4), metric="identification_top1") for value in (0.0, 1.0))
    found = difference(everyone, none)
    assert found.leaks
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.05**0.25), 1.0)
    assert not difference(none, everyone).leaks
    level = difference(none, none).interval
    assert (level.low, level.mean, level.high) == (-0.75, 0.0, 0.75)


def test_the_difference_uses_the_films_that_both_have():
    attack = values_of({(0, "a", 7): 2.0, (0, "b", 7): 5.0})
    control = values_of({(0, "b", 7): 1.0, (0, "c", 7): 9.0}, control="mismatched_update")
    found = difference(attack, control)
    assert (found.films, found.interval.mean) == (1, 4.0)
    assert difference(attack, values_of({(1, "a", 7): 2.0})) is None


def test_films_are_ordered_by_identification_then_by_fidelity():
    tables = collect(
        rows({(0, "a", 7): 0, (0, "b", 7): 1, (0, "c", 7): 1}, metric="identification_top1")
        + rows({(0, "a", 7): 99.0, (0, "b", 7): 20.0, (0, "c", 7): 30.0})
    )
    key = Key("t", "p", "none", "rog", "none", "")
    assert [film.record for film in by_leakage(tables, key)] == ["c", "b", "a"]


def test_films_are_ordered_by_a_metric_of_ones_own():
    tables = collect(rows({(0, "a", 7): 1.0, (0, "b", 7): 2.0}, metric="dice"))
    assert [film.record for film in by_leakage(tables, Key("t", "p", "none", "rog", "none", ""))] == ["b", "a"]


def test_numbers_in_words():
    assert chance({"a": 99, "b": 99}) == "1 %"
    assert chance({}).startswith("unknown")
    assert number("psnr", -0.04) == "0.0 dB"
    assert number("own_metric", 0.5) == "0.5"
    half = summary(values_of(one_batch([0.0, 1.0, 1.0, 0.0]), metric="identification_top1"))
    assert share(half).startswith("2 of 4 films (95 % interval ")
    assert np.isclose(half.interval.mean, 0.5)
