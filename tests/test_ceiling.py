"""The oracle control: its cells, its searches near the truth, and the spectrum on cases with a known answer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from math import sqrt

import pytest
import torch

from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.unmixing import Unmixing
from gradiograph.audit import estimate, parse_spec, plan, rescore, run
from gradiograph.audit.ceiling import blended
from gradiograph.audit.grid import NONE, ORACLE, SPECTRUM, TRUTH
from gradiograph.audit.spectrum import CHANGE, CONDITION_LIMIT, SAMPLE, low_frequencies, spectrum
from gradiograph.core import registry
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.factored import FactoredTensors, OuterSum
from gradiograph.core.random import stream
from gradiograph.core.tensors import Belief
from gradiograph.defences.gaussian_noise import GaussianNoise
from gradiograph.report import Results, render, render_markdown

SHAPE = (1, 6, 5)
FILMS = torch.rand(2, *SHAPE, generator=stream(0, "films"))
MIXING = torch.randn(40, 30, generator=stream(1, "mixing")) / sqrt(30)


def linear(films):
    """An update that is a matrix times the first film: it determines the film."""
    return Belief({"w": MIXING @ films[0].flatten(), "other": films[1].flatten()})


def noisy(std, films):
    return GaussianNoise(std=std).expect(linear(films))


def measured(see, count=30, place=0):
    return spectrum(see, FILMS, place, low_frequencies(count, SHAPE), stream(0, "spectrum"))


def test_the_patterns_are_orthonormal_grey_and_begin_with_the_constant():
    basis = low_frequencies(30, (3, 6, 5))
    assert basis.shape == (30, 3, 6, 5)
    flat = basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(30), atol=1e-5, rtol=0)
    assert torch.equal(basis[:, 0], basis[:, 2])
    torch.testing.assert_close(basis[0], torch.full((3, 6, 5), 1 / sqrt(90)))


def test_under_noise_the_signals_are_the_eigenvalues_of_the_fisher_information():
    std = 0.1
    found = measured(partial(noisy, std))
    expected = torch.linalg.svdvals(MIXING.double()).square() * 30 * (CHANGE / std) ** 2
    torch.testing.assert_close(found.signals, expected, rtol=1e-3, atol=1e-4)
    assert found.visible == int((expected > 1).sum())
    assert found.log_condition == pytest.approx(float((expected[0] / expected[-1]).log10()), abs=1e-3)
    assert found.is_linear


def test_an_update_that_determines_the_film_shows_every_direction():
    found = measured(linear)
    assert found.visible == 30
    torch.testing.assert_close(found.visible_part(FILMS[0], torch.zeros(SHAPE)), FILMS[0], atol=1e-4, rtol=0)


def test_only_what_the_channel_lets_through_is_visible():
    """The update is the film's mean and its first column's, so two directions of thirty."""
    found = measured(lambda films: Belief({"w": torch.stack([films[0].mean(), films[0, 0, :, 0].mean()])}))
    assert found.visible == 2
    assert found.log_condition == CONDITION_LIMIT
    centre = torch.zeros(SHAPE)
    shown = found.visible_part(FILMS[0], centre)
    assert float(shown[0, :, 0].mean()) == pytest.approx(float(FILMS[0, 0, :, 0].mean()), abs=1e-4)
    assert float((shown - FILMS[0]).square().mean()) > 0.01


@pytest.mark.parametrize(
    "destroy",
    [
        lambda films: Belief({"w": torch.zeros(7)}),
        lambda films: Belief({"w": torch.ones(7)}),
        partial(noisy, 1e3),
    ],
)
def test_a_channel_that_destroys_everything_shows_nothing(destroy):
    found = measured(destroy)
    assert found.visible == 0
    centre = torch.full(SHAPE, 0.4)
    assert torch.equal(found.visible_part(FILMS[0], centre), centre)


def test_each_film_has_a_spectrum_of_its_own():
    found = measured(lambda films: Belief({"w": films[1].flatten()}), place=0)
    assert found.visible == 0
    assert measured(lambda films: Belief({"w": films[1].flatten()}), place=1).visible == 30


def test_a_step_that_is_too_long_is_said():
    assert not measured(lambda films: Belief({"w": (films[0].flatten() * 200).sin()})).is_linear


def test_of_a_large_factored_tensor_a_sample_stands_for_all():
    left, right = (torch.randn(3, size, generator=stream(2, size)) for size in (300, 401))

    def factored(films):
        return Belief(FactoredTensors({"w": OuterSum(left * films[0].flatten()[:3, None], right)}))

    def dense(films):
        return Belief({"w": (left * films[0].flatten()[:3, None]).T @ right})

    assert SAMPLE < 300 * 401
    torch.testing.assert_close(measured(factored).signals, measured(dense).signals, rtol=1e-4, atol=1e-4)
    pixels = (left.square().sum(1) * right.square().sum(1)).sort().values
    changed = sqrt(30) * CHANGE / (1e-3 * float(dense(FILMS).mean["w"].norm()))
    assert float(measured(factored).signals.sum()) == pytest.approx(float(pixels.sum()) * changed**2, rel=0.1)


AUDIT = {
    "name": "tiny",
    "purpose": "test",
    "authorised_by": "test",
    "seeds": [1, 2],
    "data": {"use": "phantom", "image_size": 16, "patients": 60, "fractions": [0.3, 0.2, 0.5]},
    "victims": {"batches": 2, "size": 2},
    "task": {"use": "lenet"},
    "protocol": {"use": "fedavg", "local_steps": 2, "learning_rate": 1e-3},
    "threat": {"knows_labels": True},
    "defences": [[], [{"use": "gaussian_noise", "snr": 1e-12}]],
    "attacks": [{"use": "rog", "steps": 3, "factor": 1}],
    "metrics": ["psnr", "mse", "variance_explained"],
}
CEILING = {"blends": [0.1, 1.0], "batches": 1, "seeds": [2], "jacobian": 9}


ROG, NOISE = "rog(steps=3, factor=1)", "gaussian_noise(snr=1e-12)"


def spec_with(**changes):
    return parse_spec(AUDIT | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ceiling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
        return run(spec_with(ceiling=CEILING), folder, folder / "run")


def test_without_the_table_there_is_no_ceiling(tmp_path):
    assert not [cell for cell in plan(spec_with(), tmp_path).cells if cell.control.startswith(ORACLE)]


def test_each_search_in_reach_has_its_ceiling_and_each_defence_its_spectrum(finished):
    found = {
        (cell.defence, cell.attack, cell.control, cell.batch, cell.seed)
        for cell in finished.cells()
        if cell.control.startswith(ORACLE)
    }
    starts = ("ceiling_10", "ceiling_100", TRUTH)
    assert found == {(d, ROG, c, 0, 2) for d in ("none", NOISE) for c in starts} | {
        (d, "", SPECTRUM, 0, 2) for d in ("none", NOISE)
    }
    assert len(finished.cells()) == finished.header["cells_total"]


def test_an_attack_that_does_not_search_has_no_ceiling(tmp_path):
    before = dict(registry._COMPONENTS["attack"])
    try:

        @registry.register("attack", "solver")
        @dataclass(frozen=True, kw_only=True)
        class Solver(Attack):
            """Solves; it does not search."""

        made = plan(spec_with(ceiling=CEILING, attacks=[*AUDIT["attacks"], {"use": "solver"}], defences=[[]]), tmp_path)
    finally:
        registry._COMPONENTS["attack"].clear()
        registry._COMPONENTS["attack"].update(before)
    oracle = [cell for cell in made.cells if cell.control.startswith(ORACLE)]
    assert {cell.key["attack"] for cell in oracle} == {ROG, ""}
    assert len([cell for cell in oracle if cell.control == SPECTRUM]) == 1


def average(log, control, metric="mse", defence="none"):
    values = [r.value for r in log.rows() if (r.control, r.metric, r.defence) == (control, metric, defence)]
    return sum(values) / len(values)


def test_the_search_begins_where_the_control_says(finished):
    errors = [average(finished, control) for control in (TRUTH, "ceiling_10", "ceiling_100")]
    assert errors == sorted(errors)
    assert errors[1] < 0.5 * average(finished, NONE)


def test_the_objective_has_its_value_at_the_start_and_at_the_truth(finished):
    by_control = {c.control: c for c in finished.cells() if c.defence == "none" and c.seed == 2 and c.batch == 0}
    (at_truth,) = by_control[TRUTH].objective
    assert len(by_control["ceiling_10"].objective) == 1 + len(by_control[NONE].objective)
    starts = [at_truth, by_control["ceiling_10"].objective[0], by_control["ceiling_100"].objective[0]]
    assert starts == sorted(starts)
    assert at_truth < 1e-3 * starts[1]


def test_the_spectrum_tells_an_open_update_from_one_that_says_nothing(finished):
    visible = {defence: average(finished, SPECTRUM, "visible_directions", defence) for defence in ("none", NOISE)}
    assert visible["none"] == 9
    assert visible[NOISE] == 0
    assert average(finished, SPECTRUM, "variance_explained", NOISE) == pytest.approx(0, abs=1e-5)
    assert average(finished, SPECTRUM, "variance_explained") > 0.2


def test_the_ceiling_changes_no_other_cell(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
    without = run(spec_with(), tmp_path, tmp_path / "run")
    kept = [row for row in finished.rows() if not row.control.startswith(ORACLE)]
    assert kept == list(without.rows())


def test_the_report_shows_the_ceiling_apart_from_the_results(finished):
    results = Results.read(finished)
    assert not [row for row in results.rows if row.control.startswith(ORACLE)]
    assert not {"visible_directions", "condition_log10", "probed_directions"} & set(results.metrics)
    assert results.complete
    page, text = render(finished), render_markdown(finished)
    for words in ("Ceiling (oracle)", "The update says nothing", "of its 9 coarsest", "begun at the film with 10 %"):
        assert words in page, words
        assert words in text, words


def test_a_metric_added_later_scores_the_ceiling_as_well(finished, tmp_path):
    log = rescore(shutil.copytree(finished.directory, tmp_path / "own"), {"use": "ssim"})
    assert {r.control for r in log.rows() if r.metric == "ssim"} >= {SPECTRUM, TRUTH, "ceiling_10"}


def test_the_estimate_times_a_search_by_its_steps_and_a_solve_whole(tmp_path, monkeypatch):
    timed = []

    def attacked(self, observation, generator, progress):
        timed.append((type(self).__name__, self.steps))
        return type("Found", (), {"seconds": float(self.steps)})()

    for attack in (Unmixing, GradientMatching):
        monkeypatch.setattr(attack, "__call__", attacked)
    solve, search = {"use": "unmixing", "steps": 50}, {"use": "gradient_matching", "steps": 40}
    found = estimate(plan(spec_with(attacks=[solve, search]), tmp_path))
    assert timed == [("Unmixing", 50), ("GradientMatching", 1), ("GradientMatching", 2)]
    assert [cost.seconds for cost in found] == [50.0, 40.0]


def test_the_estimate_counts_the_ceiling(tmp_path):
    with_ceiling, without = (
        {cost.attack: cost for cost in estimate(plan(spec_with(**extra), tmp_path))}
        for extra in ({"ceiling": CEILING}, {})
    )
    assert with_ceiling[ROG].cells == without[ROG].cells + 4
    assert with_ceiling["(ceiling: spectrum)"].cells == 2
    assert with_ceiling["(ceiling: spectrum)"].seconds > 0


@pytest.mark.parametrize(
    ("ceiling", "words"),
    [
        ({"batches": 3}, "ceiling.batches = 3"),
        ({"seeds": [7]}, "ceiling.seeds has 7"),
        ({"blends": [0.101, 0.104]}, "whole percent"),
        ({"blends": [0.0]}, "blends"),
        ({"blend": [0.1]}, "Did you mean 'blends'"),
        ({"jacobian": 257}, "256 frequencies"),
    ],
)
def test_a_ceiling_that_cannot_be_is_refused(tmp_path, ceiling, words):
    with pytest.raises(BadSetting, match=words):
        plan(spec_with(ceiling=ceiling), tmp_path)


def test_a_blend_is_a_mixture():
    assert blended(torch.tensor(0.0), torch.tensor(1.0), 0.25) == 0.25
