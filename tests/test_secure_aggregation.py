"""Secure aggregation in an audit: the server sees the sum over several clients, and nothing else of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.func import functional_call

from gradiograph.audit import estimate, load_spec, plan, run
from gradiograph.audit.cell import _observation
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Belief
from gradiograph.defences import QSGD, Clip, GaussianNoise, SummedChannel
from gradiograph.protocols import FedAvg, SummedProtocol
from gradiograph.report import render
from gradiograph.testing import check_custody

AUDIT = """
name = "summed"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 120, fractions = [0.4, 0.2, 0.4] }
victims = { batches = 2, size = 2 }
task = { use = "lenet" }
protocol = { use = "fedavg", local_steps = 2, learning_rate = 1e-2 }
threat = { knows_labels = true, observer = "aggregate", clients = 3 }
attacks = [{ use = "latent_matching", steps = 2 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]
"""


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The same pseudonyms in every run."""
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")


def spec_with(tmp_path, *overrides):
    (tmp_path / "audit.toml").write_text(AUDIT)
    return load_spec(tmp_path / "audit.toml", overrides)


def observed(made, batch=0):
    cell = next(c for c in made.cells if (c.control, c.batch) == ("none", batch))
    return _observation(made, None, cell)


def test_the_server_sees_the_sum_of_the_clients_own_trainings(tmp_path):
    """Against plain gradient descent of each client by itself."""
    made = plan(spec_with(tmp_path), tmp_path)
    seen = observed(made)
    films, labels = torch.from_numpy(made.films.victims[0].read()), torch.from_numpy(made.films.victims[0].labels)
    assert (len(films), seen.num_examples, seen.local_steps) == (6, 6, 2)
    task, (state, update) = seen.task, seen.rounds[0]
    deltas = []
    for images, targets in zip(films.split(2), labels.split(2), strict=True):
        weights = {name: tensor.clone() for name, tensor in state.items()}
        for _ in range(2):
            free = {name: weights[name].requires_grad_() for name in task.trainable}
            loss = task.loss(functional_call(task.model, free, (images,)), targets).mean()
            slopes = torch.autograd.grad(loss, list(free.values()))
            weights = {n: (t - 1e-2 * g).detach() for (n, t), g in zip(free.items(), slopes, strict=True)}
        deltas.append({name: weights[name] - state[name] for name in task.trainable})
    for name in task.trainable:
        expected = torch.stack([delta[name] for delta in deltas]).mean(dim=0)
        torch.testing.assert_close(update.tensors[name], expected, rtol=1e-3, atol=1e-7)


def test_the_replay_of_the_true_films_is_the_sum_and_no_client_shows(tmp_path):
    made = plan(spec_with(tmp_path), tmp_path)
    seen, victims = observed(made), made.films.victims[0]
    films = torch.from_numpy(victims.read())
    check_custody(seen, films)
    replayed = seen.simulate(Batch(films, torch.from_numpy(victims.labels))).mean
    for name, tensor in seen.rounds[0][1].tensors.items():
        torch.testing.assert_close(replayed[name], tensor, rtol=1e-4, atol=1e-8)
    swapped = seen.simulate(Batch(films.roll(1, dims=0), torch.from_numpy(victims.labels).roll(1))).mean
    (name, *_) = seen.task.trainable
    assert not torch.allclose(swapped[name], replayed[name], rtol=1e-6, atol=0)


def test_every_client_protects_its_own_update(tmp_path):
    made = plan(spec_with(tmp_path, "defences=[[], [{ use = 'gaussian_noise', std = 1.0 }]]"), tmp_path)
    cell = next(c for c in made.cells if (c.control, c.batch) == ("none", 0) and c.defence)
    seen = _observation(made, None, cell)
    noise = torch.cat([tensor.flatten() for tensor in seen.rounds[0][1].tensors.values()])
    # The mean of three clients' noises.
    assert float(noise.std()) == pytest.approx(3**-0.5, rel=0.01)
    assert seen.defence == SummedChannel(each=Chain(stages=(GaussianNoise(std=1.0),)), clients=3)


def test_a_sum_of_gradients_is_the_gradient_of_all_films(tmp_path):
    """What is found in the sum over clients of one film is what is found in one client's batch of as many."""
    fedsgd = ("protocol={ use = 'fedsgd' }", "attacks=[{ use = 'latent_matching', steps = 3 }]")
    summed = run(spec_with(tmp_path, *fedsgd, "threat.clients=4", "victims.size=1"), tmp_path, tmp_path / "summed")
    own = ("threat={ knows_labels = true }", "victims.size=4")
    alone = run(spec_with(tmp_path, *fedsgd, *own), tmp_path, tmp_path / "alone")
    first, second = ({(r.control, r.batch, r.record, r.metric): r.value for r in log.rows()} for log in (summed, alone))
    assert first == {key: pytest.approx(value, rel=1e-3, abs=1e-4) for key, value in second.items()}


def test_every_film_of_the_sum_is_scored_beside_its_controls(tmp_path):
    log = run(spec_with(tmp_path), tmp_path, tmp_path / "run")
    counts = Counter((row.control, row.batch) for row in log.rows() if row.metric == "mse")
    assert set(counts.values()) == {6}
    assert {control for control, _ in counts} == {"none", "mismatched_update", "stock_film", "mean_film"}
    one, other = (log.victims(batch) for batch in (0, 1))
    assert one.labels == other.labels
    assert not {*one.records} & {*other.records}
    (weight,) = {cell.num_bytes for cell in log.cells() if cell.control == "none"}
    assert weight == 4 * log.header["tasks"][0]["trainable_parameters"]
    page = render(log)
    assert "Only the sum of several clients&#39; updates (secure aggregation)." in page
    assert "clients = 3" in page
    assert "summed with those of 2 others" in page


def test_the_films_of_a_sum_are_those_of_its_clients(tmp_path):
    spec = spec_with(tmp_path, "victims.clients=6", "data.patients=300")
    made = plan(spec, tmp_path)
    from gradiograph.data.sites import assign_clients

    clients = {r.index: r.client for r in assign_clients(made.films.dataset, 6, 0, alpha=None).records}
    found = [[clients[record.index] for record in batch.records] for batch in made.films.victims]
    assert found == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]


def test_the_cost_is_that_of_the_whole_sum(tmp_path):
    (cost,) = estimate(plan(spec_with(tmp_path), tmp_path))
    assert cost.cells == 2


@pytest.mark.parametrize(
    "stages", [(GaussianNoise(std=0.5),), (QSGD(levels=2),), (Clip(norm=1.0), GaussianNoise(std=0.2))]
)
def test_the_channel_of_a_sum_has_the_mean_and_variance_of_what_is_drawn(stages):
    chain, clients = Chain(stages=stages), 5
    clean = {"w": torch.randn(40, generator=stream(0, "clean"))}
    draws = torch.stack(
        [
            torch.stack([chain.on_update(clean, stream(draw, "noise", c))["w"] for c in range(clients)]).mean(dim=0)
            for draw in range(2000)
        ]
    )
    channel = SummedChannel(each=chain, clients=clients)
    told = channel.expect(Belief(clean))
    torch.testing.assert_close(draws.mean(dim=0), told.mean["w"], rtol=0, atol=0.04)
    torch.testing.assert_close(draws.var(dim=0).mean(), told.variance["w"].mean(), rtol=0.1, atol=0)
    # The truth explains what is seen better than what is off by a standard deviation.
    seen, off = {"w": draws[0]}, {"w": clean["w"] + 0.5}
    assert channel.log_likelihood(seen, Belief(clean)) > channel.log_likelihood(seen, Belief(off))


def test_a_sum_of_deterministic_channels_has_a_slope():
    chain = Chain(stages=(Clip(norm=1.0),))
    mean = torch.zeros(4, requires_grad=True)
    seen = {"w": torch.full((4,), 0.3)}
    SummedChannel(each=chain, clients=3).log_likelihood(seen, Belief({"w": mean + 0.2})).backward()
    assert bool((mean.grad > 0).all())


def test_the_noise_of_a_sum_is_that_of_its_clients():
    each = FedAvg(local_steps=4, learning_rate=0.1)
    summed = SummedProtocol(each=each, clients=3)
    assert summed.noise_gain(12) == pytest.approx(each.noise_gain(4) / 3)
    assert summed.sample_rate(12) * 12 == pytest.approx(each.sample_rate(4) * 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["threat.clients=1"], "sees a sum of several clients"),
        (["threat.observer='server'"], "threat.clients = 3 goes with observer = 'aggregate'"),
        (["threat.observer='agregate'"], "agregate"),
        (["threat.clients=0"], "threat.clients = 0"),
    ],
)
def test_a_sum_needs_its_clients(tmp_path, overrides, message):
    with pytest.raises(BadSetting, match=message):
        spec_with(tmp_path, *overrides)


def test_solving_for_a_whole_sum_of_gradients(tmp_path):
    """Without labels: the films of four clients of one film, unmixed from the sum of their gradients."""
    overrides = ("protocol={ use = 'fedsgd' }", "threat={ observer = 'aggregate', clients = 4 }", "victims.size=1",
                 "data.image_size=32", "attacks=[{ use = 'unmixing' }]")  # fmt: skip
    log = run(spec_with(tmp_path, *overrides), tmp_path, tmp_path / "run")
    rows = [row for row in log.rows() if row.metric == "mse"]
    found, control = (np.array([r.value for r in rows if r.control == c]) for c in ("none", "mismatched_update"))
    assert len(found) == 8
    assert found.mean() < 0.1 * control.mean()
