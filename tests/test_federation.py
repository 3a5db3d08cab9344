"""Training in rounds: what is averaged, who takes part, what is left out, and that a training can be continued."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gradiograph.core.client import client_update
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, LogProblem, TrainingFailed
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.defences import GaussianNoise, TopK
from gradiograph.federation import (
    SGD,
    FedAdam,
    Federation,
    Rounds,
    Site,
    capture,
    capture_sum,
    drawn,
    next_round,
    pack,
    predict,
    train,
    unpack,
    untrained,
)
from gradiograph.protocols import FedAvg, FedProx, FedSGD


def cross_entropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def make_task(*, norm=False):
    with global_stream(0, "test"):
        layers = [
            nn.Conv2d(1, 3, 3),
            *([nn.BatchNorm2d(3)] if norm else []),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(108, 2),
        ]
        model = nn.Sequential(*layers)
    names = tuple(name for name, _ in model.named_parameters())
    return Task(
        name="tiny",
        model=model,
        loss=cross_entropy,
        image_shape=(1, 8, 8),
        num_classes=2,
        mode="train",
        trainable=names,
    )


def films(size, *names):
    images = torch.rand(size, 1, 8, 8, generator=stream(1, "images", *names))
    targets = torch.arange(size) % 2
    return Batch((images + 0.6 * targets.view(-1, 1, 1, 1)).clamp(0, 1), targets)


def make_site(size, *names):
    batch = films(size, *names)
    return Site(num_examples=size, read=lambda: batch)


AVERAGING = FedAvg(local_epochs=2, learning_rate=0.1, batch_size=2)


def make(sizes=(4, 6, 2), *, norm=False, protocol=AVERAGING, defence=None, server=None, seed=7, client=None, **rounds):
    return Federation(
        task=make_task(norm=norm),
        sites=tuple(make_site(size, place) for place, size in enumerate(sizes)),
        protocol=protocol,
        defence=defence or Chain(),
        server=server or SGD(),
        rounds=Rounds(**{"rounds": 3, **rounds}),
        seed=seed,
        client=client or client_update,
    )


def assert_equal(first, second):
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_round_of_fedavg_is_the_mean_of_the_clients_weights_by_their_examples():
    """Against torch's own optimiser, client by client, on whole batches."""
    federation = make(protocol=FedAvg(local_steps=3, learning_rate=0.1))
    found = next_round(federation, untrained(federation)).state
    expected, examples = {name: torch.zeros_like(t) for name, t in federation.task.state().items()}, 0
    for site in federation.sites:
        model, batch = make_task().model, site.read()
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            cross_entropy(model(batch.images), batch.targets).mean().backward()
            optimiser.step()
        for name, tensor in model.state_dict().items():
            expected[name] += len(batch) * tensor
        examples += len(batch)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name] / examples)


def test_fedsgd_is_gradient_descent_on_all_films_together():
    federation = make(protocol=FedSGD(), server=SGD(learning_rate=0.5), rounds=2)
    found = train(federation).state
    model = make_task().model
    batches = [site.read() for site in federation.sites]
    images, targets = torch.cat([b.images for b in batches]), torch.cat([b.targets for b in batches])
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(2):
        optimiser.zero_grad()
        cross_entropy(model(images), targets).mean().backward()
        optimiser.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor.detach())


def test_training_lowers_the_loss_and_the_scores_of_each_round_are_kept():
    federation = make((20, 20), rounds=16, protocol=FedAvg(local_steps=5, learning_rate=0.2))
    batch = films(40, "test")

    def evaluate(state):
        probabilities = predict(federation.task, state, [batch.images[:30], batch.images[30:]])
        assert probabilities.shape == (40, 2)
        return {"loss": float(-probabilities[torch.arange(40), batch.targets].log().mean())}

    losses = [record.scores["loss"] for record in train(federation, evaluate=evaluate).history]
    assert len(losses) == 16
    assert losses[-1] < 0.7 * losses[0]


def test_the_mean_of_one_client_is_its_update_bit_by_bit():
    federation = make((5,), protocol=FedAvg(local_steps=1, learning_rate=0.1), rounds=1)
    state, update = capture(federation, train(federation), 1, 0)
    assert_equal(train(federation).state, {**state, **{n: state[n] + t for n, t in update.tensors.items()}})


def test_batchnorm_statistics_are_averaged_by_examples_and_the_task_is_not_changed():
    federation = make((4, 8), norm=True, protocol=FedAvg(local_steps=1, learning_rate=0.1), rounds=1)
    before = federation.task.state()
    found = train(federation).state["1.running_mean"]
    seen = [capture(federation, train(federation), 1, client)[1].buffers["1.running_mean"] for client in (0, 1)]
    torch.testing.assert_close(found, (4 * seen[0] + 8 * seen[1]) / 12)
    assert found.abs().max() > 1e-3
    assert_equal(federation.task.state(), before)


def test_predictions_use_the_running_statistics_so_no_film_judges_another():
    task = make_task(norm=True)
    images = films(6).images
    together = predict(task, task.state(), [images])
    alone = predict(task, task.state(), [image[None] for image in images])
    torch.testing.assert_close(together, alone)
    assert task.model.training
    model = make_task(norm=True).model.eval()
    torch.testing.assert_close(together.float(), model(images).softmax(dim=1).detach())


def test_server_momentum_and_adam_against_their_formulas():
    weights, direction = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.5, -0.25])}
    sgd = SGD(learning_rate=0.1, momentum=0.9)
    once, memory = sgd.step(weights, direction, {})
    twice, _ = sgd.step(once, direction, memory)
    torch.testing.assert_close(twice["w"], weights["w"] + 0.1 * direction["w"] * (1 + 1.9))
    adam = FedAdam(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    once, memory = adam.step(weights, direction, {})
    twice, _ = adam.step(once, direction, memory)
    expected, first, second = np.array([1.0, 2.0]), np.zeros(2), np.full(2, 0.01**2)
    delta = np.array([0.5, -0.25])
    for _ in range(2):
        first, second = 0.9 * first + 0.1 * delta, 0.99 * second + 0.01 * delta**2
        expected = expected + 0.1 * first / (np.sqrt(second) + 0.01)
    np.testing.assert_allclose(twice["w"].numpy(), expected, rtol=1e-6)


def test_fedprox_draws_the_client_back_and_without_pull_is_fedavg():
    task, batch = make_task(), films(6)
    settings = {"local_steps": 8, "learning_rate": 0.1}

    def moved(protocol):
        tensors = protocol.local_update(task, task.state(), batch, None).tensors
        return torch.cat([t.flatten() for t in tensors.values()])

    free = moved(FedAvg(**settings))
    torch.testing.assert_close(moved(FedProx(mu=1e-9, **settings)), free)
    assert moved(FedProx(mu=3.0, **settings)).norm() < 0.5 * free.norm()
    # Two steps by hand: the second gradient has mu (w1 - w0) added, and w1 - w0 = -lr g0.
    one, two = (moved(FedAvg(local_steps=n, learning_rate=0.1)) for n in (1, 2))
    pulled = moved(FedProx(mu=2.0, local_steps=2, learning_rate=0.1))
    torch.testing.assert_close(pulled, two - 0.1 * 2.0 * one)


def test_fedprox_is_replayed_with_factors_as_without():
    with global_stream(0, "wide"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 2))
    names = tuple(name for name, _ in model.named_parameters())
    task = replace(make_task(), model=model, trainable=names)
    protocol = FedProx(mu=1.0, local_steps=2, learning_rate=0.1)
    plain = protocol.local_update(task, task.state(), films(2), None).tensors
    replayed = protocol.local_update(task, task.state(), films(2), None, differentiable=True).tensors
    for name, tensor in plain.items():
        torch.testing.assert_close(replayed[name], tensor, atol=1e-6, rtol=1e-4)


def test_clients_are_drawn_anew_in_every_round_and_by_the_seed_alone():
    federation = make((2,) * 10, clients_per_round=3, rounds=6)
    chosen = [drawn(federation, number) for number in range(1, 7)]
    assert all(len(set(clients)) == 3 for clients in chosen)
    assert len(set(chosen)) > 1
    assert chosen == [drawn(federation, number) for number in range(1, 7)]
    assert chosen != [drawn(replace(federation, seed=8), number) for number in range(1, 7)]
    history = train(federation).history
    assert [tuple(o.client for o in record.outcomes) for record in history] == chosen
    assert len(drawn(make((2,) * 10, clients_per_round=0.5), 1)) == 5


def test_noise_is_drawn_anew_by_every_client_and_round():
    noise = Chain(stages=(GaussianNoise(std=0.1),))
    federation = make((4, 4), defence=noise, keep=(2,), protocol=FedAvg(local_steps=1, learning_rate=1e-6))
    training = train(federation)
    seen = [capture(federation, training, number, client)[1] for number in (1, 2) for client in (0, 1)]
    flat = torch.stack([update.tensors["3.weight"].flatten() for update in seen])
    correlation = torch.corrcoef(flat) - torch.eye(4)
    assert correlation.abs().max() < 0.25
    assert flat.std().item() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("server", [SGD(momentum=0.9), FedAdam()], ids=["momentum", "fedadam"])
def test_a_continued_training_is_the_uninterrupted_one_bit_by_bit(server):
    defence = Chain(stages=(TopK(sparsity=0.5), GaussianNoise(std=0.01)))
    federation = make(norm=True, server=server, defence=defence, clients_per_round=2, rounds=4, keep=(2, 4))
    whole = train(federation)
    written = []
    train(replace(federation, rounds=replace(federation.rounds, rounds=4)), keep=lambda t: written.append(pack(t)))
    assert len(written) == 4
    for content in written:
        continued = train(federation, start=unpack(content, federation))
        assert_equal(continued.state, whole.state)
        for part in whole.memory:
            assert_equal(continued.memory[part], whole.memory[part])
        assert set(continued.kept) == {2, 4}
        assert_equal(continued.kept[2], whole.kept[2])
        assert [record.outcomes for record in continued.history] == [record.outcomes for record in whole.history]


def test_a_checkpoint_of_something_else_is_refused():
    federation = make()
    content = pack(train(federation))
    with pytest.raises(LogProblem, match="damaged"):
        unpack(content[: len(content) // 2], federation)
    with pytest.raises(LogProblem, match="another model"):
        unpack(content, make(norm=True))


def returns_nothing(update):
    return None


def not_finite(update):
    name = next(iter(update.tensors))
    return replace(update, tensors={**update.tensors, name: update.tensors[name] * float("nan")})


def wrong_shape(update):
    return replace(update, tensors={**update.tensors, "3.bias": torch.zeros(3)})


def lacks_a_tensor(update):
    return replace(update, tensors={n: t for n, t in update.tensors.items() if n != "3.bias"})


def infinite_buffer(update):
    return replace(update, buffers={n: t / 0 for n, t in update.buffers.items()})


def other_kind(update):
    return replace(update, kind="gradient")


BROKEN = {
    returns_nothing: "sent nothing",
    not_finite: "sent values in '0.weight' that are not finite",
    wrong_shape: r"sent '3.bias' in shape \(3,\), the model's is \(2,\)",
    lacks_a_tensor: "sent 3 tensors: 1 of the model's 4 lack, 0 foreign",
    infinite_buffer: "sent values in '1.running_mean' that are not finite",
    other_kind: "sent a gradient",
}


def broken_client(breaks, *which):
    def client(task, state, batch, protocol, defence, seed, *names):
        update = client_update(task, state, batch, protocol, defence, seed, *names)
        return breaks(update) if names[-1] in which else update

    return client


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_client_that_fails_is_left_out_and_the_round_goes_on(breaks):
    federation = make(norm=breaks is infinite_buffer, client=broken_client(breaks, 1), min_clients=2, rounds=2)
    training = train(federation)
    for record in training.history:
        refused = {o.client: o.refused for o in record.outcomes}
        assert refused[0] == refused[2] == ""
        assert refused[1]
    with_two = replace(federation, client=broken_client(returns_nothing, 1))
    assert_equal(training.state, train(with_two).state)
    with pytest.raises(TrainingFailed, match=f"Round 1: 2 of 3 .* min_clients is 3. Client 1 {BROKEN[breaks]}"):
        train(replace(federation, rounds=Rounds(rounds=1, min_clients=3)))


def test_a_round_without_any_usable_update_is_an_error_whatever_min_clients_says():
    with pytest.raises(TrainingFailed, match="0 of 3 clients"):
        train(make(client=broken_client(returns_nothing, 0, 1, 2)))


def test_weights_that_overflow_on_the_server_are_an_error():
    with pytest.raises(TrainingFailed, match="no longer finite"):
        train(make(server=SGD(learning_rate=1e39)))


def test_what_was_captured_is_what_the_server_averaged():
    federation = make(rounds=3, keep=(3,), defence=Chain(stages=(GaussianNoise(std=0.01),)))
    training = train(federation)
    state, whole = capture_sum(federation, training, 3, (0, 1, 2))
    for name in federation.task.trainable:
        assert torch.equal(state[name] + whole.tensors[name], training.state[name])
    assert whole.num_examples == 12
    with pytest.raises(BadSetting, match="round 2 was not kept; kept are 1, 3"):
        capture(federation, training, 2, 0)
    with pytest.raises(BadSetting, match="name at least one"):
        capture_sum(federation, training, 1, ())


def test_a_client_that_was_not_drawn_has_nothing_to_capture():
    federation = make((2,) * 5, clients_per_round=2)
    absent = next(client for client in range(5) if client not in drawn(federation, 1))
    with pytest.raises(BadSetting, match=f"Client {absent} sent nothing in round 1"):
        capture(federation, train(federation), 1, absent)


def test_under_secure_aggregation_fedsgd_shows_the_gradient_of_all_films_together():
    federation = make(protocol=FedSGD(), rounds=1)
    _, seen = capture_sum(federation, untrained(federation), 1, (0, 1))
    batches = [site.read() for site in federation.sites[:2]]
    together = Batch(torch.cat([b.images for b in batches]), torch.cat([b.targets for b in batches]))
    expected = FedSGD().local_update(federation.task, federation.task.state(), together, None).tensors
    for name, tensor in expected.items():
        torch.testing.assert_close(seen.tensors[name], tensor)


def test_at_most_one_update_is_held_however_many_clients():
    alive, most = weakref.WeakSet(), []

    def client(*args):
        gc.collect()
        most.append(len(alive))
        update = client_update(*args)
        alive.update(update.tensors.values())
        return update

    train(make((2,) * 8, client=client, rounds=1, protocol=FedSGD()))
    assert max(most) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clients_per_round": 4}, "4 clients a round of 3 sites"),
        ({"min_clients": 4}, "min_clients = 4"),
        ({"keep": (9,)}, "Round 9 cannot be kept: the rounds are 1 to 3"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_round(settings, message):
    with pytest.raises(BadSetting, match=message):
        make(**settings)


def test_bytes_of_a_round_are_those_of_its_updates_and_of_the_weights_sent_down():
    record = train(make(defence=Chain(stages=(TopK(sparsity=0.9),)), rounds=1)).history[0]
    values = sum(tensor.numel() for tensor in make_task().state().values())
    assert record.bytes_down == 3 * 4 * values
    assert 0 < record.bytes_up < 0.3 * record.bytes_down
