"""`map`, and what it asks of the search: a prior of the right weight, restarts, part of an update, a given start."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from attack_observations import SIDE, error, ignore, observe, smooth_images, tiny_task
from gradiograph.attacks import GradientMatching, gradient_matching, idlg, latent_matching, rog
from gradiograph.attacks.eigen import EigenPrior, save_prior
from gradiograph.attacks.likelihoods import is_density, misfit, one_nat
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.mask_differencing import MaskDifferencing
from gradiograph.attacks.search import CHECKS
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput, BadSetting, MissingKnowledge
from gradiograph.core.random import stream
from gradiograph.core.registry import check
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Belief
from gradiograph.defences import Clip, GaussianNoise, SignSGD, TopK
from gradiograph.protocols import FedAvg
from gradiograph.testing import check_attack
from test_likelihood_choices import Known

SHAPE = (1, SIDE, SIDE)
NUM_PIXELS = SIDE * SIDE


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def film():
    return Batch(smooth_images(1), torch.tensor([1]))


@pytest.fixture(scope="module")
def prior():
    directions = torch.linalg.qr(torch.randn(NUM_PIXELS, 4, generator=stream(0, "directions"))).Q.T.contiguous()
    std = torch.tensor([0.8, 0.4, 0.2, 0.1])
    return EigenPrior(
        mean=torch.full((NUM_PIXELS,), 0.5), components=directions, std=std, residual=0.0, image_shape=SHAPE
    )


@pytest.fixture
def prior_file(prior, tmp_path):
    save_prior(prior, tmp_path / "prior.npz", ["someone"])
    return tmp_path / "prior.npz"


def linear_task() -> Task:
    """A model whose gradient is the image itself: the loss is the output of the true class."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(NUM_PIXELS, 2, bias=False))
    return Task(
        name="linear",
        model=model,
        loss=lambda outputs, targets: outputs.gather(1, targets[:, None])[:, 0],
        image_shape=SHAPE,
        num_classes=2,
        mode="train",
        trainable=("1.weight",),
    )


@pytest.mark.parametrize(
    ("weight", "around"), [(1.0, True), (10.0, True), (1.0, False), (10.0, False), (0.0, False)]
)  # without a weight, and around the prior, nothing holds a pixel back: the noise would be fitted
def test_the_most_probable_images_are_those_of_the_closed_form(prior, prior_file, weight, around):
    std, latent = 0.3, torch.tensor([[0.8, -1.1, 1.3, -0.6]])
    film = Batch(prior.images(latent).contiguous(), torch.tensor([1]))
    observation = observe(linear_task(), film, defence=Chain(stages=(GaussianNoise(std=std),)))
    attack = MaximumAPosteriori(prior=prior_file, around=around, prior_weight=weight, exposure=0.0, steps=250)
    found = attack(observation, stream(0), ignore).images
    assert 0 < found.min() < found.max() < 1
    residual = observation.rounds[0][1].tensors["1.weight"][1] - prior.mean
    expected = prior.std * (prior.components @ residual) / (prior.std.square() + weight * std**2)
    torch.testing.assert_close(prior.encode(found)[0], expected.clamp(-4, 4), atol=0.02, rtol=0.02)


def test_a_distance_weighs_a_prior_as_noise_of_one_percent(task, film):
    observation = observe(task, film)
    seen = observation.rounds[0][1].tensors
    count = sum(tensor.numel() for tensor in seen.values())
    std = 0.01 * (sum(tensor.square().sum() for tensor in seen.values()) / count) ** 0.5
    off = Belief({name: 1.001 * tensor for name, tensor in seen.items()})
    log_density = -sum((off.mean[name] - seen[name]).square().sum() for name in seen) / (2 * std**2)
    assert not is_density("channel", observation)
    for name in ("l2", "channel"):
        found = misfit(name, observation)(off) / one_nat(name, observation, count)
        assert found.item() == pytest.approx(-log_density.item(), rel=1e-2)


def test_a_channels_likelihood_weighs_a_prior_by_its_number_of_values(task, film):
    observation = observe(task, film, defence=Chain(stages=(Known(),)))
    belief = observation.simulate(Batch(smooth_images(1, seed=9), film.targets))
    seen = observation.rounds[0][1].tensors
    count = sum(tensor.numel() for tensor in seen.values())
    found = misfit("channel", observation)(belief) / one_nat("channel", observation, count)
    torch.testing.assert_close(found, -Known().log_likelihood(seen, belief))


def test_an_eigen_prior_finds_a_film_of_its_span_under_a_channel(prior_file, prior):
    task = tiny_task()
    film = Batch(prior.images(torch.tensor([[1.5, -1.2, 1.0, 0.8]])).contiguous(), torch.tensor([1]))
    observation = observe(task, film, defence=Chain(stages=(SignSGD(),)))
    found = MaximumAPosteriori(prior=prior_file, steps=60)(observation, stream(0, "a"), ignore)
    mean = prior.images(torch.zeros(1, 4))
    assert error(found.images, film.images.clamp(0, 1)) < 0.1 * error(mean, film.images)


def test_around_a_prior_a_film_is_found_that_its_components_cannot_show(prior, tmp_path):
    save_prior(replace(prior, residual=0.05), tmp_path / "loose.npz")
    film = Batch(
        (prior.images(torch.tensor([[1.0, -1.2, 1.0, 0.8]])) + 0.2 * smooth_images(1) - 0.1).contiguous(),
        torch.tensor([1]),
    )
    observation = observe(linear_task(), film)
    attack = partial(MaximumAPosteriori, prior=tmp_path / "loose.npz", steps=100, optimiser="lbfgs")
    within, around = (attack(around=x)(observation, stream(0), ignore).images for x in (False, True))
    assert error(around, film.images) < 0.01 * error(within, film.images)


def test_the_contract_alone_and_under_defences():
    check_attack(lambda: MaximumAPosteriori(steps=2, restarts=2))
    check_attack(lambda: MaximumAPosteriori(steps=1), defence=Chain(stages=(Clip(norm=0.5), TopK(sparsity=0.9))))


def test_the_defence_is_required_for_its_likelihood_only_and_labels_are_used_where_granted(task, film):
    hidden = observe(task, film, knows_defence=False, knows_labels=False)
    with pytest.raises(MissingKnowledge, match=r"map.*knows_defence"):
        MaximumAPosteriori()(hidden, stream(0), ignore)
    found = MaximumAPosteriori(likelihood="cosine", steps=2)(hidden, stream(0), ignore)
    assert found.targets.shape == (1, 3)
    assert MaximumAPosteriori(steps=2)(observe(task, film), stream(0), ignore).targets.tolist() == [1]


def test_settings_are_typed_and_a_prior_of_another_shape_is_refused_before_anything_runs(prior_file):
    _, settings = check("attack", {"use": "map", "prior": str(prior_file), "layers": ["0.*"]})
    assert (settings["prior"], settings["layers"], settings["likelihood"]) == (prior_file, ("0.*",), "channel")
    for wrong in ({"polish": 1.5}, {"restarts": 0}, {"prior_weight": -1}, {"likelihood": "l1"}):
        with pytest.raises(BadSetting, match=next(iter(wrong))):
            check("attack", {"use": "map", **wrong})
    MaximumAPosteriori(prior=prior_file).check(tiny_task())
    with pytest.raises(BadInput, match=r"\(1, 16, 16\)"):
        MaximumAPosteriori(prior=prior_file).check(replace(tiny_task(), image_shape=(1, 16, 16)))


@pytest.mark.parametrize("likelihood", ["l2", "cosine"])
def test_of_several_searches_the_one_with_the_smallest_objective_is_returned(task, film, likelihood, monkeypatch):
    observation = observe(task, film, FedAvg(local_steps=3, learning_rate=1e-4))
    single = gradient_matching(steps=6, likelihood=likelihood, learning_rate=0.1)
    generator = stream(0, "a")
    alone = [single(observation, generator, ignore) for _ in range(4)]
    best = min(alone, key=lambda found: min(found.objective))
    shares = []
    monkeypatch.setattr("gradiograph.attacks.matching.perf_counter", lambda: len(shares))  # a second a step
    found = replace(single, restarts=4)(observation, stream(0, "a"), shares.append)
    assert found.seconds == 24  # of all searches
    assert best is not alone[0]
    assert torch.equal(found.images, best.images)
    assert found.objective == best.objective
    assert shares == pytest.approx([(count + 1) / 24 for count in range(24)])


def test_a_search_that_diverged_is_not_chosen(task, film):
    observation, calls = observe(task, film), []

    def simulate(batch):
        calls.append(1)
        belief = observation.simulate(batch)
        factor = torch.nan if len(calls) <= 2 else 1.0
        return Belief({name: factor * tensor for name, tensor in belief.mean.items()})

    shares = []
    attack = rog(steps=4, restarts=2)
    found = attack(replace(observation, simulate=simulate), stream(0), shares.append)
    assert "diverged" not in found.flags
    assert len(found.objective) == 4
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_last_steps_are_replayed_exactly(task, film):
    observation, calls = observe(task, film, FedAvg(local_steps=3, learning_rate=1e-4)), []

    def simulate(batch):
        calls.append(1)
        return observation.simulate(batch)

    watched = replace(observation, simulate=simulate)
    MaximumAPosteriori(steps=20, polish=0.5, optimiser="adam", replay="midpoint")(watched, stream(0), ignore)
    assert len(calls) == CHECKS // 2 + 10 + 1
    calls.clear()
    MaximumAPosteriori(steps=20, polish=0.0, optimiser="adam", replay="midpoint")(watched, stream(0), ignore)
    assert len(calls) == CHECKS + 1


@pytest.mark.parametrize("likelihood", ["l2", "cosine", "cosine_per_layer", "channel"])
def test_only_the_layers_asked_for_are_used(task, film, likelihood):
    observation = observe(task, film, FedAvg(local_steps=2, learning_rate=0.01), Chain(stages=(Known(std=0.01),)))
    (state, update), noise = observation.rounds[0], stream(0, "noise")
    false = {
        name: tensor if name.startswith("5.") else torch.randn(tensor.shape, generator=noise)
        for name, tensor in update.tensors.items()
    }
    forged = replace(observation, rounds=((state, replace(update, tensors=false)),))
    attack = latent_matching(steps=10, likelihood=likelihood, layers=("5.*",))
    one, two = (attack(seen, stream(0, "a"), ignore).images for seen in (observation, forged))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    whole = replace(attack, layers=())
    assert (whole(observation, stream(0, "a"), ignore).images - one).abs().max() > 1e-3


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(task, film):
    for attack in (rog(layers=("0.*", "6.weight")), MaximumAPosteriori(layers=("6.weight",))):
        with pytest.raises(BadSetting, match=r"'6.weight'.*Did you mean '5.weight'\? Valid: 0.bias, 0.weight"):
            attack.check(task)
    with pytest.raises(BadSetting, match=r"6\.weight"):
        rog(layers=("6.weight",))(observe(task, film), stream(0), ignore)


def test_labels_are_inferred_from_the_layers_that_are_used(task, film):
    observation = observe(task, film, knows_labels=False)
    attack = replace(idlg(steps=1), layers=("5.*",))
    assert attack(observation, stream(0), ignore).targets.tolist() == [1]
    with pytest.raises(BadSetting, match="Labels cannot be inferred"):
        replace(attack, layers=("0.*",))(observation, stream(0), ignore)


@pytest.mark.parametrize("attack", [latent_matching(steps=1, factor=1, learning_rate=1e-6, restarts=3),
                                    gradient_matching(steps=1, parametrisation="pixels", learning_rate=1e-6),
                                    MaximumAPosteriori(steps=1, factor=1, learning_rate=1e-6)])  # fmt: skip
def test_a_search_is_begun_at_given_images(task, film, attack):
    begun = attack.started_at(film.images)
    assert isinstance(begun, GradientMatching)
    assert begun.restarts == 1
    found = begun(observe(task, film), stream(0), ignore)
    torch.testing.assert_close(found.images, film.images, atol=1e-4, rtol=0)
    assert error(attack(observe(task, film), stream(0), ignore).images, film.images) > 1e-3


def test_an_attack_that_solves_has_no_start(film):
    assert MaskDifferencing().started_at(film.images) is None
