"""The same films behind several rounds: what the server holds of them, and what an attack makes of it."""

from dataclasses import replace

import pytest
import torch

from attack_observations import error, ignore, smooth_images, tiny_task
from gradiograph.attacks import gradient_matching, latent_matching
from gradiograph.attacks.likelihoods import misfit
from gradiograph.attacks.objective import objective
from gradiograph.attacks.replay import exact, midpoint
from gradiograph.audit.client import client_rounds, client_update, observe, server_step
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Update
from gradiograph.core.threat import ThreatModel
from gradiograph.defences import GaussianNoise
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import check_custody

DELTA = FedAvg(local_steps=1, learning_rate=0.05)
NOISE = Chain(stages=(GaussianNoise(snr=0.1),))
THREAT = ThreatModel(knows_labels=True)


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def films():
    return Batch(smooth_images(2), torch.tensor([0, 2]))


def seen(task, films, rounds, protocol=DELTA, defence=None):
    defence = defence or Chain()
    (state, update), *later = client_rounds(task, task.state(), films, protocol, defence, 3, "batch", rounds=rounds)
    return observe(task, state, update, protocol, defence, THREAT, films.targets.clone(), tuple(later))


def test_the_first_round_is_that_of_one_round_and_the_others_draw_their_own_noise(task, films):
    first, second = client_rounds(task, task.state(), films, DELTA, NOISE, 3, "batch", rounds=2)
    alone = client_update(task, task.state(), films, DELTA, NOISE, 3, "batch")
    assert all(torch.equal(first[1].tensors[name], alone.tensors[name]) for name in alone.tensors)
    assert all(torch.equal(first[0][name], tensor) for name, tensor in task.state().items())
    clean = [DELTA.local_update(task, state, films, None).tensors for state, _ in (first, second)]
    noise = [r[1].tensors["5.weight"] - c["5.weight"] for r, c in zip((first, second), clean, strict=True)]
    assert abs(float(torch.corrcoef(torch.stack([n.flatten() for n in noise]))[0, 1])) < 0.2


def test_the_server_adds_a_delta_takes_off_a_gradient_and_moves_the_buffers():
    state = {"w": torch.tensor([1.0, 2.0]), "frozen": torch.tensor([5.0]), "mean": torch.tensor([0.0])}
    delta = Update(tensors={"w": torch.tensor([0.5, -1.0])}, buffers={"mean": torch.tensor([0.25])}, kind="delta",
                   num_examples=1, num_bytes=0)  # fmt: skip
    moved = server_step(state, delta, 0.1)
    assert {name: tensor.tolist() for name, tensor in moved.items()} == {"w": [1.5, 1.0], "frozen": [5], "mean": [0.25]}
    assert server_step(state, replace(delta, kind="gradient"), 0.1)["w"].tolist() == pytest.approx([0.95, 2.1])
    assert state["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("protocol", "replay"),
    [(DELTA, exact), (DELTA, midpoint), (FedSGD(), exact)],
    ids=["delta", "midpoint", "gradient"],
)
def test_a_round_is_replayed_from_its_own_state(task, films, protocol, replay):
    observation = seen(task, films, 3, protocol)
    for place, (_, update) in enumerate(observation.rounds):
        found = replay(observation, place)(films).mean
        for name, tensor in update.tensors.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    first, third = (observation.rounds[place][1].tensors["5.weight"] for place in (0, 2))
    assert not torch.allclose(first, third, rtol=1e-3)


def test_the_objective_is_the_mean_misfit_of_the_rounds(task, films):
    observation = seen(task, films, 2)
    other = Batch(smooth_images(2, seed=9), films.targets)
    names = tuple(observation.rounds[0][1].tensors)
    made = objective(observation, likelihood="l2", replay="midpoint", tv=0.0, normal=0.0, names=names)
    total = sum(made.value(place, replay, other.images, other) for place, replay in enumerate(made.fast))
    parts = [misfit("l2", observation, round=r)(observation.simulate(other, round=r)) for r in (0, 1)]
    assert total.item() == pytest.approx(sum(part.item() for part in parts) / 2, rel=1e-3)


def test_two_rounds_under_noise_tell_more_than_one(task, films):
    attack = latent_matching(steps=60, likelihood="channel")
    errors = [
        error(attack(seen(task, films, rounds, defence=NOISE), stream(0, "a"), ignore).images, films.images)
        for rounds in (1, 2)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_nothing_of_several_rounds_reaches_the_films(task, films):
    private = Batch(torch.rand(2, 1, 12, 12, generator=stream(4)), films.targets)
    check_custody(seen(task, private, 2, defence=NOISE), private.images)


def test_an_attack_on_several_rounds_leaves_the_observation_alone(task, films):
    observation = seen(task, films, 2)
    held = [tensor for state, update in observation.rounds for tensor in (*state.values(), *update.tensors.values())]
    before = [tensor.clone() for tensor in held]
    gradient_matching(steps=2)(observation, stream(0), ignore)
    assert all(torch.equal(old, new) for old, new in zip(before, held, strict=True))
