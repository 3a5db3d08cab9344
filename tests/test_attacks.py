"""The optimisation attacks on cases whose answer is known."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from attack_observations import SIDE, error, ignore, observe, smooth_images, tiny_task
from gradiograph.attacks import (
    GradientMatching,
    dlg,
    gradient_matching,
    idlg,
    inverting_gradients,
    latent_matching,
    rog,
)
from gradiograph.attacks import matching as matching_module
from gradiograph.attacks.likelihoods import misfit
from gradiograph.attacks.search import CHECKS
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, MissingKnowledge
from gradiograph.core.random import stream
from gradiograph.core.registry import check, component
from gradiograph.core.tensors import Batch, Belief
from gradiograph.protocols import FedAvg, FedSGD
from test_likelihood_choices import Known

PRESETS = {
    "dlg": dlg,
    "gradient_matching": gradient_matching,
    "idlg": idlg,
    "inverting_gradients": inverting_gradients,
    "latent_matching": latent_matching,
    "rog": rog,
}
SMALL = FedAvg(local_steps=3, learning_rate=1e-4)
LARGE = FedAvg(local_steps=5, learning_rate=0.3)
ADAMW = FedAvg(local_steps=5, learning_rate=1e-4, optimiser="adamw")


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def film():
    return Batch(smooth_images(1), torch.tensor([1]))


def counting(observation):
    """The observation, and a list that grows by one with every exact replay."""
    calls = []

    def simulate(batch):
        calls.append(len(batch))
        return observation.simulate(batch)

    return replace(observation, simulate=simulate), calls


@pytest.mark.parametrize("attack", [dlg(steps=12), idlg(steps=8)], ids=lambda attack: attack.name)
def test_dlg_and_idlg_recover_one_image_of_noise_and_its_label(task, attack):
    truth = Batch(torch.rand(1, 1, SIDE, SIDE, generator=stream(3)), torch.tensor([1]))
    found = attack(observe(task, truth, knows_labels=False), stream(0, "a"), ignore)
    assert error(found.images, truth.images) < 1e-4
    label = found.targets.argmax(dim=1) if found.targets.ndim == 2 else found.targets
    assert label.tolist() == [1]
    assert found.objective[-1] < 1e-4 < found.objective[0]


@pytest.mark.parametrize("protocol", [FedSGD(), SMALL], ids=["fedsgd", "fedavg"])
@pytest.mark.parametrize(
    "attack",
    [
        inverting_gradients(steps=100, tv=1e-4),
        rog(),
        latent_matching(steps=80),
        gradient_matching(steps=60, learning_rate=0.2),
        gradient_matching(parametrisation="pixels", optimiser="lbfgs", learning_rate=1.0, likelihood="l2", steps=4),
    ],
    ids=["inverting_gradients", "rog", "latent_matching", "gradient_matching", "gradient_matching_lbfgs"],
)
def test_a_smooth_film_is_found_far_better_than_by_its_mean(task, film, attack, protocol):
    found = attack(observe(task, film, protocol), stream(0, "a"), ignore)
    mean = film.images.mean().expand_as(film.images)
    assert error(found.images, film.images) < 0.25 * error(mean, film.images)


def test_two_films_are_found_in_the_order_of_their_known_labels(task):
    truth = Batch(smooth_images(2, seed=4), torch.tensor([2, 0]))
    found = latent_matching(steps=120)(observe(task, truth), stream(0, "a"), ignore).images
    assert error(found, truth.images) < 0.1 * error(truth.images.flip(0), truth.images)


def test_an_attack_that_knows_the_defence_uses_its_likelihood(task, film):
    observation = observe(task, film, defence=Chain(stages=(Known(),)))
    found = gradient_matching(steps=60, learning_rate=0.2, likelihood="channel")(observation, stream(0, "a"), ignore)
    assert error(found.images, film.images) < 0.25 * error(film.images.mean().expand_as(film.images), film.images)


@pytest.mark.parametrize("name", PRESETS)
def test_result_shapes_range_progress_determinism_and_no_mutation(name):
    task = tiny_task(channels=3)
    truth = Batch(smooth_images(2, channels=3), torch.tensor([2, 0]))
    observation = observe(task, truth, FedAvg(local_steps=2, learning_rate=1e-4))
    state, update = observation.rounds[0]
    held = [*state.values(), *update.tensors.values()]
    before = [tensor.clone() for tensor in held]
    attack, shares = PRESETS[name](steps=2), []

    first = attack(observation, stream(1, "a"), shares.append)
    assert first.images.shape == truth.images.shape
    assert first.images.dtype == torch.float32
    assert not first.images.requires_grad
    assert first.images.min() >= 0
    assert first.images.max() <= 1
    assert len(first.objective) == 2
    assert first.seconds > 0
    assert shares == [0.5, 1.0]
    assert first.targets.tolist() == [2, 0]
    assert all(torch.equal(old, new) for old, new in zip(before, held, strict=True))
    assert all(tensor.grad is None for tensor in state.values())

    again = attack(observation, stream(1, "a"), ignore)
    assert torch.equal(first.images, again.images)
    assert first.objective == again.objective
    assert not torch.equal(first.images, attack(observation, stream(2, "a"), ignore).images)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_registered_with_validated_settings(name):
    entry, defaults = check("attack", {"use": name})
    assert entry is component("attack", name)
    attack = entry.build(**defaults)
    assert isinstance(attack, GradientMatching)
    assert attack.name == name
    assert attack == PRESETS[name]()
    for wrong in ({"steps": 0}, {"learning_rate": 0}, {"tv": -1}, {"stepps": 3}):
        with pytest.raises(BadSetting, match=next(iter(wrong))):
            check("attack", {"use": name, **wrong})


def test_what_an_attack_requires_follows_from_its_settings():
    base = ("knows_protocol", "knows_num_examples")
    assert dlg().requires == idlg().requires == rog(labels="joint").requires == base
    assert rog().requires == inverting_gradients().requires == (*base, "knows_labels")
    assert gradient_matching(labels="inferred").requires == (*base, "knows_defence")


@pytest.mark.parametrize(
    ("attack", "hidden"),
    [(rog(), "knows_labels"), (dlg(), "knows_protocol"), (idlg(), "knows_num_examples"),
     (gradient_matching(), "knows_defence")],
)  # fmt: skip
def test_missing_knowledge_is_raised_and_nothing_is_guessed(task, film, attack, hidden):
    with pytest.raises(MissingKnowledge, match=f"{attack.name}.*{hidden}"):
        attack(observe(task, film, **{hidden: False}), stream(0), ignore)


def test_fewer_steps_than_the_papers_are_flagged(task, film):
    observation = observe(task, film)
    assert rog(steps=2)(observation, stream(0), ignore).flags == ("truncated",)
    assert latent_matching(steps=2)(observation, stream(0), ignore).flags == ()
    assert rog()(observation, stream(0), ignore).flags == ()


def test_joint_labels_of_any_preset_are_probabilities(task, film):
    observation = observe(task, film, knows_labels=False)
    targets = rog(steps=3, labels="joint")(observation, stream(0), ignore).targets
    assert targets.shape == (1, 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(1))


def test_the_candidate_with_the_best_objective_is_returned(task, film):
    seen = []

    def simulate(observation, batch):
        seen.append(batch.images.detach())
        return observation.simulate(batch)

    observation = observe(task, film)
    watched = replace(observation, simulate=partial(simulate, observation))
    # Steps as large as the range of the pixels: the objective goes up and down.
    found = rog(steps=6, learning_rate=0.5)(watched, stream(3), ignore)
    measure = misfit("l2", observation)
    values = [measure(observation.simulate(Batch(images, film.targets))).item() for images in seen]
    best = min(range(7), key=values.__getitem__)
    assert 0 < best < 6
    assert found.objective == pytest.approx(values[1:])
    assert torch.equal(found.images, seen[best].clamp(0, 1))


@pytest.mark.parametrize("broken_from", [0, 5])
def test_a_search_that_diverges_keeps_the_best_finite_candidate(task, film, broken_from):
    observation, calls = counting(observe(task, film))

    def simulate(batch):
        belief = observation.simulate(batch)
        factor = torch.nan if len(calls) > broken_from else 1.0
        return Belief({name: factor * tensor for name, tensor in belief.mean.items()})

    found = rog(steps=20)(replace(observation, simulate=simulate), stream(0), ignore)
    assert found.flags == ("truncated", "diverged")
    assert found.images.isfinite().all()
    assert len(found.objective) == max(0, broken_from - 1)
    assert all(value == value for value in found.objective)


def test_an_lbfgs_step_into_nan_ends_the_search_without_a_crash(task, film):
    observation, calls = counting(observe(task, film, knows_labels=False))

    def simulate(batch):
        belief = observation.simulate(batch)
        factor = torch.nan if len(calls) > 3 else 1.0
        return Belief({name: factor * tensor for name, tensor in belief.mean.items()})

    found = dlg(steps=5)(replace(observation, simulate=simulate), stream(0), ignore)
    assert found.flags == ("truncated", "diverged")
    assert found.images.isfinite().all()
    assert found.targets.isfinite().all()


def test_the_midpoint_stands_in_for_the_local_steps_while_it_agrees(task, film):
    observation, calls = counting(observe(task, film, SMALL))
    found = latent_matching(steps=20)(observation, stream(0), ignore)
    assert len(calls) == CHECKS + 1
    assert found.flags == ()


def test_the_search_goes_over_to_the_exact_replay_where_the_midpoint_fails(task, film):
    observation, calls = counting(observe(task, film, ADAMW))
    found = latent_matching(steps=20)(observation, stream(0), ignore)
    assert len(calls) >= 20
    assert found.flags == ()
    exact = latent_matching(steps=20, replay="exact")(observe(task, film, ADAMW), stream(0), ignore)
    assert torch.equal(found.images, exact.images)


def test_the_search_goes_over_once_the_misfit_no_longer_hides_the_midpoints_error(task, film):
    observation, calls = counting(observe(task, film, LARGE))
    found = latent_matching(steps=20)(observation, stream(0), ignore)
    assert 15 <= len(calls) < 20
    assert found.flags == ()


def test_a_midpoint_that_fails_at_the_end_is_flagged(task, film, monkeypatch):
    answers = iter([True, True, True, True, False])
    monkeypatch.setattr(matching_module.replays, "agrees", lambda *_: next(answers))
    assert latent_matching(steps=8)(observe(task, film, LARGE), stream(0), ignore).flags == ("approximate",)


def test_candidates_of_the_midpoint_do_not_compete_with_those_of_the_exact_replay(task, film, monkeypatch):
    answers = iter([True, True, True, False])
    monkeypatch.setattr(matching_module.replays, "agrees", lambda *_: next(answers))
    seen = []

    def simulate(observation, batch):
        seen.append(batch.images.detach())
        return observation.simulate(batch)

    observation = observe(task, film, LARGE)
    watched = replace(observation, simulate=partial(simulate, observation))
    found = latent_matching(steps=8)(watched, stream(0), ignore)
    assert any(torch.equal(found.images, images.clamp(0, 1)) for images in seen)
    assert found.flags == ()


def test_a_gradient_needs_no_midpoint(task, film):
    observation, calls = counting(observe(task, film))
    latent_matching(steps=4)(observation, stream(0), ignore)
    assert len(calls) == 5
