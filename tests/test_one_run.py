"""The empirical lower bound: correct code is never refuted, planted bugs are, and no bound passes what can be shown."""

from dataclasses import dataclass, replace
from math import log, sqrt

import numpy as np
import pytest
import torch
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.stats import binom
from torch import nn

from gradiograph.accounting import (
    gaussian_epsilon,
    gaussian_noise_multiplier,
    largest_bound,
    lower_bound,
    train_with_canaries,
)
from gradiograph.accounting.canaries import canary_task, spread
from gradiograph.accounting.one_run import SHARES, chance_of_guesses
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, global_norm
from gradiograph.defences import DPSGD
from gradiograph.protocols import FedAvg, FedSGD

DELTA = 1e-5


def test_chance_without_delta_is_binomial():
    assert chance_of_guesses(100, 50, 40, 1.0, 0.0) == pytest.approx(binom.sf(39, 50, 1 / (1 + np.exp(-1))))
    assert chance_of_guesses(100, 50, 0, 1.0, 1e-5) == 1.0


@pytest.mark.parametrize(("guesses", "correct"), [(50, 40), (10, 10), (200, 130)])
def test_chance_with_delta_by_hand(guesses, correct):
    """Theorem 5.2, its maximum written out."""
    right = 1 / (1 + np.exp(-0.7))
    mass = [binom.pmf(k, guesses, right) for k in range(guesses + 1)]
    worst = max(sum(mass[correct - i : correct]) / i for i in range(1, correct + 1))
    expected = sum(mass[correct:]) + 2 * 1000 * 1e-4 * worst
    assert chance_of_guesses(1000, guesses, correct, 0.7, 1e-4) == pytest.approx(min(1, expected))


def test_delta_and_epsilon_explain_more():
    assert chance_of_guesses(1000, 100, 80, 1.0, 0.0) < chance_of_guesses(1000, 100, 80, 1.0, 1e-4)
    assert chance_of_guesses(1000, 100, 80, 1.0, 1e-5) < chance_of_guesses(1000, 100, 80, 1.5, 1e-5)


def test_largest_bound_is_what_perfect_guesses_give():
    """About ln(m / ln(1 / level)), with delta a little less."""
    included = np.arange(1000) % 2 == 0
    found = lower_bound(included.astype(float), included, delta=0.0)
    assert found.correct == found.guesses == 900
    assert found.epsilon == found.largest == largest_bound(1000, delta=0.0)
    assert found.epsilon == pytest.approx(log(900 / log(len(SHARES) / 0.05)), abs=0.01)
    assert largest_bound(1000, delta=1e-5) < found.epsilon < largest_bound(5000, delta=0.0)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_bound_holds_for_randomised_response(epsilon):
    """The mechanism that the theorem is tight for: of 200 audits at 95 %, at most 5 % or so exceed the true epsilon."""
    rng, over, bounds = np.random.default_rng(3), 0, []
    for _ in range(200):
        included = rng.random(1000) < 0.5
        told = included ^ (rng.random(1000) > 1 / (1 + np.exp(-epsilon)))
        bounds.append(lower_bound(told + 0.01 * rng.random(1000), included, delta=0.0).epsilon)
        over += bounds[-1] > epsilon
    assert over <= 17  # 10 expected at most; 17 or more has a chance of 2 %
    assert np.median(bounds) > 0.6 * epsilon


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0])
def test_bound_holds_for_the_gaussian_mechanism(epsilon):
    sigma, rng = gaussian_noise_multiplier(epsilon, DELTA), np.random.default_rng(4)
    for _ in range(50):
        included = rng.random(1000) < 0.5
        assert lower_bound(included + sigma * rng.standard_normal(1000), included, delta=DELTA).epsilon <= epsilon


def task():
    with global_stream(0, "task"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3), nn.ReLU(), nn.Linear(3, 90), nn.Linear(90, 2))
    return Task(
        name="linear",
        model=model,
        loss=nn.CrossEntropyLoss(reduction="none"),
        image_shape=(1, 16, 16),
        num_classes=2,
        mode="train",
        trainable=tuple(name for name, _ in model.named_parameters()),
    )


def films(count=40):
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(count) % 2
    return Batch(torch.rand(count, 1, 16, 16, generator=generator), labels, torch.arange(count) // 2)


@dataclass(frozen=True, kw_only=True)
class NoiseForgotten(DPSGD):
    def on_example_sum(self, total, expected, generator):
        return super().on_example_sum(total, expected, None)


@dataclass(frozen=True, kw_only=True)
class NoiseOnWeightsOnly(DPSGD):
    """Leaves the biases of the hidden layers without noise."""

    def on_example_sum(self, total, expected, generator):
        noisy = super().on_example_sum(total, expected, generator)
        return {**noisy, "inner.3.bias": super().on_example_sum(total, expected, None)["inner.3.bias"]}


@dataclass(frozen=True, kw_only=True)
class MeanClipped(DPSGD):
    """Clips the mean of the batch in place of each example: the sensitivity stays that of an unclipped example."""

    def on_example_gradients(self, gradients):
        units = len(next(iter(gradients.tensors.values())))
        return gradients.weighted_sum({name: torch.ones(units) for name in gradients.tensors})

    def on_example_sum(self, total, expected, generator):
        mean = {name: tensor / expected for name, tensor in total.items()}
        factor = (self.clip_norm / global_norm(mean)).clamp_max(1.0)
        std = self.noise_multiplier * self.clip_norm / expected
        return {name: t * factor + std * torch.randn(t.shape, generator=generator) for name, t in mean.items()}


def measured(defence, *, protocol=None, rounds=1, seed=0):
    run = train_with_canaries(
        task(), protocol or FedSGD(), Chain(stages=(defence,)), films(), canaries=1000, rounds=rounds, seed=seed
    )
    return lower_bound(run.scores, run.included, delta=DELTA)


def dp_sgd(kind=DPSGD, epsilon=1.0, **changes):
    return kind(clip_norm=1.0, noise_multiplier=gaussian_noise_multiplier(epsilon, DELTA), **changes)


@pytest.mark.parametrize("unit", ["example", "patient"])
@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
def test_correct_code_is_not_refuted(unit, clipping):
    bounds = [measured(dp_sgd(unit=unit, clipping=clipping), seed=seed).epsilon for seed in range(3)]
    assert max(bounds) <= 1.0


def test_correct_code_over_rounds():
    """Twenty rounds, composed: epsilon 4.6 in all, of which the canaries show more than one round could have."""
    sigma = gaussian_noise_multiplier(1.0, DELTA)
    claimed = gaussian_epsilon(sigma / sqrt(20), DELTA)
    found = measured(dp_sgd(), rounds=20)
    assert 1.0 < found.epsilon <= claimed


def test_correct_code_with_poisson_sampling():
    """Fifty steps, each on a tenth of the examples, against Google's accountant."""
    protocol, made = FedAvg(local_steps=50, learning_rate=0.1, batch_size=104), dp_sgd(epsilon=4.0)
    step = PoissonSampledDpEvent(0.1, GaussianDpEvent(made.noise_multiplier))
    claimed = PLDAccountant().compose(step, 50).get_epsilon(DELTA)
    found = measured(made, protocol=protocol)
    assert 0.5 < found.epsilon <= claimed


@pytest.mark.parametrize("bug", [NoiseForgotten, NoiseOnWeightsOnly, MeanClipped])
@pytest.mark.parametrize("protocol", [FedSGD(), FedAvg(local_steps=2, learning_rate=0.1)])
def test_planted_bug_is_caught(bug, protocol):
    """Claimed: epsilon 1 a step, at most 1.5 for two.

    True: none where noise is lacking; with the mean clipped a canary moves it by C over the root of those that are in,
    in noise of sigma C over all, which is epsilon above 100. The bound alone proves more than 2.
    """
    found = measured(dp_sgd(bug), protocol=protocol)
    assert found.epsilon > 2.0
    assert found.epsilon <= found.largest


@pytest.mark.parametrize("seed", range(3))
def test_epsilon_that_is_not_composed_is_caught(seed):
    """Claimed: epsilon 1, that of one round. True: 30 rounds, epsilon 6."""
    true = gaussian_epsilon(gaussian_noise_multiplier(1.0, DELTA) / sqrt(30), DELTA)
    assert true > 5.0
    assert 1.0 < measured(dp_sgd(), rounds=30, seed=seed).epsilon <= true


def test_a_canary_is_one_weight():
    places = {"1.weight": torch.tensor([5, 9]), "4.bias": torch.tensor([1])}
    made, batch = canary_task(task(), places), films(2)
    targets = torch.tensor([1, 2 + 1])
    state = {name: tensor.requires_grad_() for name, tensor in made.state().items()}
    loss = made.loss(made.forward(state, batch.images), targets)
    plain = task()
    outputs = plain.forward({name.removeprefix("inner."): tensor for name, tensor in state.items()}, batch.images)
    assert torch.allclose(loss[0], plain.loss(outputs, targets.clamp_max(1))[0])
    gradients = torch.autograd.grad(loss[1], [state[name] for name in made.trainable], materialize_grads=True)
    assert sum(gradient.count_nonzero() for gradient in gradients) == 1
    assert gradients[0].flatten()[9] == -1000
    assert made.loss(made.forward(state, batch.images[:1]), torch.tensor([2 + 3])).item() == 0


def test_canaries_are_in_every_parameter():
    places = spread(task(), 1000, stream(0))
    sizes = {name: len(at) for name, at in places.items()}
    assert sum(sizes.values()) == 1000
    assert sizes["4.bias"] == 2
    assert sizes["1.bias"] == 3
    assert all(len(set(at.tolist())) == len(at) for at in places.values())
    with pytest.raises(BadInput, match="needs one of its own"):
        spread(task(), 2000, stream(0))


def test_runs_differ_by_seed_and_repeat():
    runs = [train_with_canaries(task(), FedSGD(), Chain(stages=(dp_sgd(),)), films(), canaries=1000, rounds=1, seed=s)
            for s in (0, 0, 1)]  # fmt: skip
    assert np.array_equal(runs[0].scores, runs[1].scores)
    assert not np.array_equal(runs[0].included, runs[2].included)
    assert 400 < runs[0].included.sum() < 600


def test_too_few_canaries_are_refused():
    with pytest.raises(BadInput, match="at least 1000"):
        train_with_canaries(task(), FedSGD(), Chain(), films(), canaries=999, rounds=1, seed=0)


def test_films_without_patients():
    batch = replace(films(), patients=None)
    run = train_with_canaries(task(), FedSGD(), Chain(stages=(dp_sgd(),)), batch, canaries=1000, rounds=1, seed=0)
    assert len(run.scores) == 1000
