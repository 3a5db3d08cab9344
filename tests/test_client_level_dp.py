"""Privacy of a whole client: the clip on the client, the noise where each defence places it, and what is promised."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradiograph.accounting import account, gaussian_epsilon
from gradiograph.audit import parse_spec, plan
from gradiograph.audit.privacy import statements
from gradiograph.core.client import client_update
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.privacy import Exposure
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Belief, global_norm
from gradiograph.defences import Clip, DistributedNoise, DPFedAvg, LocalDP
from gradiograph.federation import SGD, Federation, Rounds, Site, next_round, untrained
from gradiograph.protocols import FedAvg
from gradiograph.tasks import cross_entropy

SIZES = (4, 6, 2)
CENTRAL = DPFedAvg(clip_norm=0.2, noise_multiplier=0.0, weight_cap=4)


def tiny():
    with global_stream(0, "test"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 2))
    names = tuple(name for name, _ in model.named_parameters())
    settings = {"image_shape": (1, 8, 8), "num_classes": 2, "mode": "train", "trainable": names}
    return Task(name="tiny", model=model, loss=cross_entropy, **settings)


def site(size, number):
    images = torch.rand(size, 1, 8, 8, generator=stream(number, "films"))
    return Site(num_examples=size, read=lambda: Batch(images, torch.arange(size) % 2))


def federation(defence, seed=7, **rounds):
    return Federation(
        task=tiny(),
        sites=tuple(site(size, number) for number, size in enumerate(SIZES)),
        protocol=FedAvg(local_steps=2, learning_rate=1.0),
        defence=Chain(stages=(defence,)),
        server=SGD(),
        rounds=Rounds(rounds=1, **rounds),
        seed=seed,
    )


def moved(federated):
    before = federated.task.state()
    after = next_round(federated, untrained(federated)).state
    return {name: after[name] - before[name] for name in before}


def test_clipped_updates_count_by_capped_weights_over_a_fixed_denominator():
    """Weights min(n / 4, 1): 1, 1 and 1/2, over their expected sum."""
    whole = federation(CENTRAL)
    state = whole.task.state()
    sent = [
        client_update(whole.task, state, site.read(), whole.protocol, whole.defence, 7, "federation", 1, place).tensors
        for place, site in enumerate(whole.sites)
    ]
    assert all(float(global_norm(tensors)) <= 0.2 * (1 + 1e-5) for tensors in sent)
    found = moved(whole)
    for name in found:
        expected = (sent[0][name] + sent[1][name] + 0.5 * sent[2][name]) / 2.5
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)


def test_no_client_moves_the_model_by_more_than_the_noise_is_scaled_to():
    for seed in range(4):
        two, one = (moved(federation(CENTRAL, seed, clients_per_round=count)) for count in (2, 1))
        share = {2: 2 / 3 * 2.5, 1: 1 / 3 * 2.5}
        assert float(global_norm(two)) <= 2 * 0.2 / share[2] * (1 + 1e-5)
        assert float(global_norm(one)) <= 0.2 / share[1] * (1 + 1e-5)


def test_the_aggregator_adds_the_noise_and_the_server_saw_none():
    noisy = federation(replace(CENTRAL, noise_multiplier=3.0))
    noise = torch.cat(
        [(a - b).flatten() for a, b in zip(moved(noisy).values(), moved(federation(CENTRAL)).values(), strict=True)]
    )
    assert float(noise.std()) == pytest.approx(3.0 * 0.2 / 2.5, rel=0.05)
    update = {"w": torch.tensor([3.0, 4.0])}
    sent = replace(CENTRAL, noise_multiplier=3.0).on_update(update, stream(0, "defence"))
    torch.testing.assert_close(sent["w"], Clip(norm=0.2).on_update(update, stream(0, "x"))["w"])


def test_shares_of_the_noise_add_up_to_all_of_it():
    spread = DistributedNoise(clip_norm=0.5, noise_multiplier=2.0, clients=4)
    zero = {"w": torch.zeros(20_000)}
    shares = [spread.on_update(zero, stream(place, "share"))["w"] for place in range(4)]
    assert float(shares[0].std()) == pytest.approx(2.0 * 0.5 / 2, rel=0.03)
    assert float(torch.stack(shares).sum(0).std()) == pytest.approx(2.0 * 0.5, rel=0.03)


def test_local_noise_is_scaled_to_twice_the_clip_and_scored_as_gaussian():
    local = LocalDP(clip_norm=0.5, noise_multiplier=1.5)
    update = {"w": torch.full((20_000,), 1.0)}
    sent = local.on_update(update, stream(0, "defence"))["w"]
    assert float(sent.std()) == pytest.approx(1.5 * 2 * 0.5, rel=0.03)
    assert float(local.expect(Belief(update)).variance["w"][0]) == pytest.approx(1.5**2)


def test_budgets_are_of_the_client_and_compose_over_its_rounds():
    exposed = Exposure(site="site 0", images=50, patients=40, rounds=9, steps=5, sample_rate=0.1)
    for defence in (LocalDP(clip_norm=1.0, noise_multiplier=3.0), replace(CENTRAL, noise_multiplier=3.0)):
        (found,) = account([defence.privacy(exposed)])
        assert found.unit == "client"
        assert found.epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-5), rel=1e-6)
    assert CENTRAL.privacy(exposed) is None
    assert CENTRAL.guarantee is None
    assert "not the server" in replace(CENTRAL, noise_multiplier=1.0).guarantee


SPEC = {
    "name": "t", "purpose": "t", "authorised_by": "t", "seeds": [0],
    "data": {"use": "phantom", "image_size": 16, "patients": 120},
    "victims": {"batches": 2, "size": 2}, "task": {"use": "small_cnn"}, "attacks": [{"use": "map", "steps": 1}],
    "protocol": {"use": "fedavg", "local_steps": 2, "learning_rate": 0.1},
    "metrics": [{"use": "identification", "distance": "pixels", "min_gallery": 4}],
}  # fmt: skip


def test_distributed_noise_is_refused_where_each_client_is_seen(tmp_path):
    spread = {"use": "distributed_noise", "clip_norm": 1.0, "noise_multiplier": 1.0, "clients": 3}
    with pytest.raises(BadSetting, match=r"spreads its noise over 3 clients, and the server sees each by itself"):
        plan(parse_spec(SPEC | {"defences": [[], [spread]]}), tmp_path)
    summed = {"threat": {"observer": "aggregate", "clients": 3}}
    assert plan(parse_spec(SPEC | summed | {"defences": [[], [spread]]}), tmp_path).cells


def test_a_budget_in_the_audit_file_sets_the_noise_and_what_the_server_sees_is_told(tmp_path):
    """The local budget bounds what the server finds; noise of the aggregator bounds nothing of it."""
    budget = {"clip_norm": 1.0, "epsilon": 2.0, "delta": 1e-5}
    stacks = [[], [{"use": "local_dp", **budget}], [{"use": "dp_fedavg", **budget}]]
    made = plan(parse_spec(SPEC | {"defences": stacks, "victims": {"batches": 2, "size": 2, "rounds": 4}}), tmp_path)
    local, central = statements(made)
    assert local["noise_multiplier"] == pytest.approx(central["noise_multiplier"], rel=1e-9)
    assert local["attacked"][0]["epsilon"] == pytest.approx(2.0, rel=1e-3)
    assert local["identification_bound"] < 0.7
    assert central["attacked"] == []
    assert central["identification_bound"] == 1.0
    assert "before the noise" in central["meaning"][0]
