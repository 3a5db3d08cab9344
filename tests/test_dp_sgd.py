"""DP-SGD in the client step: against one example at a time, against Opacus, against draws, in training and attack."""

from itertools import combinations

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from gradiograph.audit.client import observe
from gradiograph.core.client import client_update
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.example_gradients import example_gradients, merged, units
from gradiograph.core.local_steps import blocks
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.replay import replay
from gradiograph.core.task import Task, mean_gradient
from gradiograph.core.tensors import Batch, global_norm
from gradiograph.core.threat import ThreatModel
from gradiograph.defences import DPSGD, GaussianNoise, TopK
from gradiograph.protocols import FedAvg, FedProx, FedSGD
from gradiograph.tasks import cross_entropy

SEPARATE = ("lenet", "small_cnn", "resnet18_groupnorm", "resnet_wide_head")
STILL = DPSGD(clip_norm=0.5, noise_multiplier=0.0)
NOISY = DPSGD(clip_norm=0.5, noise_multiplier=0.4)


def tiny():
    with global_stream(0, "test"):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 2))
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


def films(count, seed=1, patients=None):
    images = torch.rand(count, 1, 8, 8, generator=stream(seed, "films"))
    return Batch(images, torch.arange(count) % 2, None if patients is None else torch.tensor(patients))


def one_by_one(task, batch):
    state = task.state()
    return [
        mean_gradient(task, state, Batch(i[None], t[None])) for i, t in zip(batch.images, batch.targets, strict=True)
    ]


def clipped_mean(gradients, bound):
    factors = [min(1.0, bound / float(global_norm(gradient))) for gradient in gradients]
    total = {n: sum(f * g[n] for f, g in zip(factors, gradients, strict=True)) for n in gradients[0]}
    return {n: tensor / len(gradients) for n, tensor in total.items()}


def update(protocol, defence, batch=None, seed=0, task=None):
    task = task or tiny()
    return client_update(task, task.state(), batch or films(6), protocol, Chain(stages=(defence,)), seed).tensors


def close(found, expected, **tolerance):
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **tolerance)


# The gradients of examples


@pytest.mark.parametrize("name", SEPARATE)
def test_gradients_per_example_are_those_of_each_alone_and_of_opacus_hooks(name):
    """The hooks run a backward pass, which in-place operations would break where `validate` finds nothing."""
    task = build("task", {"use": name}, (1, 32, 32), 7)
    batch = Batch(torch.rand(3, 1, 32, 32, generator=stream(1, "films")), torch.tensor([0, 1, 1]))
    found = example_gradients(task, task.state(), batch).tensors
    alone = one_by_one(task, batch)
    hooked = GradSampleModule(task.model, loss_reduction="sum")
    task.loss(hooked(batch.images.requires_grad_()), batch.targets).sum().backward()
    samples = {name: parameter.grad_sample for name, parameter in task.model.named_parameters()}
    for key in task.trainable:
        size = float(torch.stack([gradient[key] for gradient in alone]).abs().max())
        for place, gradient in enumerate(alone):
            torch.testing.assert_close(found[key][place], gradient[key], rtol=1e-3, atol=1e-3 * size)
        torch.testing.assert_close(samples[key], found[key], rtol=1e-3, atol=1e-3 * size)


def test_batchnorm_is_refused_with_the_reason():
    task = build("task", {"use": "resnet18"}, (1, 32, 32), 7)
    batch = Batch(torch.rand(2, 1, 32, 32), torch.tensor([0, 1]))
    with pytest.raises(BadSetting, match="BatchNorm in train mode"):
        update(FedSGD(), STILL, batch, task=task)


def test_a_patients_gradient_is_the_mean_of_the_patients_images():
    task, batch = tiny(), films(4, patients=[7, 3, 7, 9])
    alone = one_by_one(task, batch)
    found = merged(example_gradients(task, task.state(), batch), units(batch, "patient"))
    assert [len(tensor) for tensor in found.tensors.values()] == [3] * 4
    expected = {n: (alone[0][n] + alone[2][n]) / 2 for n in task.trainable}
    close({n: tensor[1] for n, tensor in found.tensors.items()}, expected, rtol=1e-4, atol=1e-6)


def test_patients_that_are_not_known_are_asked_for():
    with pytest.raises(BadSetting, match="unit = 'patient' needs to know whose image is whose"):
        update(FedSGD(), DPSGD(clip_norm=1.0, noise_multiplier=1.0, unit="patient"))


def test_blocks_hold_all_images_once_and_no_unit_is_in_two():
    unit_of = torch.randint(0, 30, (100,), generator=stream(0, "units"))
    found = [places.tolist() for places in blocks(unit_of)]
    assert sorted(place for places in found for place in places) == list(range(100))
    units_of_blocks = [set(unit_of[places].tolist()) for places in found]
    assert len(found) > 3
    assert all(not first & second for first, second in combinations(units_of_blocks, 2))


# The step


def test_flat_clipping_is_the_mean_of_clipped_gradients():
    task, batch = tiny(), films(6)
    close(update(FedSGD(), STILL, batch), clipped_mean(one_by_one(task, batch), 0.5), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
def test_no_example_and_no_patient_moves_the_step_by_more_than_the_bound(clipping):
    """The sensitivity: the step with the images of one patient differs from that without by at most C / expected."""
    for unit in ("example", "patient"):
        defence = DPSGD(clip_norm=0.3, noise_multiplier=0.0, clipping=clipping, unit=unit)
        batch = films(6, patients=[0, 1, 1, 1, 2, 3] if unit == "patient" else None)
        kept = torch.tensor([0, 4, 5]) if unit == "patient" else torch.tensor([0, 2, 3, 4, 5])
        task = tiny()
        state = {name: 30 * tensor for name, tensor in task.state().items()}  # large gradients, so that all are clipped

        def step(indices, batch=batch, unit=unit, defence=defence, task=task, state=state):
            found = merged(
                example_gradients(task, state, Batch(batch.images[indices], batch.targets[indices])),
                units(batch, unit)[indices],
            )
            return defence.on_example_sum(defence.on_example_gradients(found), 1.0, None)

        whole, without = step(torch.arange(6)), step(kept)
        moved = float(global_norm({name: whole[name] - without[name] for name in whole}))
        assert 0.1 < moved <= 0.3 * (1 + 1e-5)


def test_the_noise_has_the_stated_variance_and_repeats_with_its_seed():
    clean = update(FedSGD(), STILL)
    noises = [update(FedSGD(), NOISY, seed=seed)["3.weight"] - clean["3.weight"] for seed in range(40)]
    spread = torch.stack(noises)
    assert spread.std() == pytest.approx(0.4 * 0.5 / 6, rel=0.03)
    assert abs(float(spread.mean())) < 4 * 0.4 * 0.5 / 6 / spread.numel() ** 0.5
    close(update(FedSGD(), NOISY, seed=3), update(FedSGD(), NOISY, seed=3))


def test_mini_batches_are_drawn_by_poisson_sampling_with_a_fixed_denominator():
    """Gradients of constant size show the count: each image is in a step with probability 2 / 6, by itself."""
    task = tiny()
    protocol = FedAvg(local_steps=1, learning_rate=1.0, batch_size=2)
    lone = update(protocol, DPSGD(clip_norm=1e-6, noise_multiplier=0.0), Batch(*_same(6)), task=task)
    (unit,) = {round(float(global_norm(lone)) / (1e-6 / 2))} - {None}
    counts = []
    for seed in range(300):
        moved = update(protocol, DPSGD(clip_norm=1e-6, noise_multiplier=0.0), Batch(*_same(6)), seed, task)
        counts.append(round(float(global_norm(moved)) / (1e-6 / 2)))
    assert unit in range(7)
    assert set(counts) >= {0, 1, 2, 3, 4}  # also none: an empty step is a step
    assert sum(counts) / 300 == pytest.approx(2.0, abs=4 * (6 * 2 / 9 / 300) ** 0.5)


def _same(count):
    return films(1).images.expand(count, -1, -1, -1).clone(), torch.zeros(count, dtype=torch.int64)


def test_an_empty_step_is_noise_alone():
    found = example_gradients(tiny(), tiny().state(), Batch(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)))
    total = STILL.on_example_gradients(found)
    assert all(not tensor.any() for tensor in STILL.on_example_sum(total, 2.0, None).values())
    assert all(tensor.any() for tensor in NOISY.on_example_sum(total, 2.0, stream(0, "noise")).values())


def test_strength_is_stated_and_two_do_not_stack():
    with pytest.raises(BadSetting, match="give noise_multiplier, or epsilon and delta"):
        DPSGD(clip_norm=1.0)
    with pytest.raises(BadSetting, match="add delta"):
        DPSGD(clip_norm=1.0, epsilon=8.0)
    with pytest.raises(BadSetting, match="has no noise yet"):
        update(FedSGD(), DPSGD(clip_norm=1.0, epsilon=8.0, delta=1e-5))
    with pytest.raises(BadSetting, match="this one has two"):
        update(FedSGD(), Chain(stages=(STILL, TopK(sparsity=0.5), NOISY)))


def test_the_guarantee_names_its_unit_and_noise_of_zero_has_none():
    assert STILL.guarantee is None
    assert "each image (not patient)" in NOISY.guarantee
    patient = DPSGD(clip_norm=1.0, epsilon=8.0, delta=1e-5, unit="patient")
    assert Chain(stages=(patient, TopK(sparsity=0.5))).guarantee.startswith(
        "(8, 1e-05)-differential privacy of each pat"
    )


# The attacker's side


@pytest.mark.parametrize(
    ("protocol", "tolerance"),
    [
        (FedSGD(), 0.0),
        (FedAvg(local_steps=3, learning_rate=0.1), 0.05),
        (FedAvg(local_steps=4, learning_rate=0.05, batch_size=3, momentum=0.5, weight_decay=0.1), 0.05),
        (FedProx(mu=1.0, local_steps=3, learning_rate=0.1), 0.05),
    ],
    ids=["one step", "steps", "sampled, momentum, decay", "proximal"],
)
def test_the_replay_is_the_mean_and_variance_over_many_draws(protocol, tolerance):
    """Monte Carlo: exact for one step, and close for several, where noise moves the later gradients a little."""
    task, batch, chain = tiny(), films(6), Chain(stages=(DPSGD(clip_norm=0.5, noise_multiplier=1.0),))
    belief = replay(task, task.state(), protocol, chain, batch)
    draws = [update(protocol, chain.stages[0], batch, seed)["3.weight"] for seed in range(200)]
    found, std = torch.stack(draws), belief.variance["3.weight"][0, 0].sqrt()
    assert (
        float((found.mean(0) - belief.mean["3.weight"].detach()).abs().mean())
        < 1.3 * float(std) * (1 / 200 + tolerance**2) ** 0.5
    )
    assert float(found.std(0).mean() / std) == pytest.approx(1.0, abs=0.03 + tolerance)


def test_the_likelihood_of_one_step_is_the_gaussian_density():
    task, batch, chain = tiny(), films(6), Chain(stages=(NOISY,))
    belief = replay(task, task.state(), FedSGD(), chain, batch)
    seen = update(FedSGD(), NOISY, batch)
    law = torch.distributions.Normal
    std = 0.4 * 0.5 / 6
    expected = sum(law(belief.mean[n].detach(), std).log_prob(seen[n]).sum() for n in seen)
    assert float(chain.log_likelihood(seen, belief).detach()) == pytest.approx(float(expected), rel=1e-5)


def test_stacked_with_noise_on_the_update_the_variances_add():
    chain = Chain(stages=(NOISY, GaussianNoise(std=0.1)))
    belief = replay(tiny(), tiny().state(), FedSGD(), chain, films(6))
    total = chain.expect(belief).variance["3.weight"]
    assert float(total[0, 0]) == pytest.approx((0.4 * 0.5 / 6) ** 2 + 0.01, rel=1e-5)


def test_the_replay_is_differentiable_and_clips_as_the_client_does():
    task, batch = tiny(), films(4)
    images = batch.images.clone().requires_grad_()
    belief = replay(task, task.state(), FedSGD(), Chain(stages=(STILL,)), Batch(images, batch.targets))
    close({n: t.detach() for n, t in belief.mean.items()}, update(FedSGD(), STILL, batch), rtol=1e-4, atol=1e-6)
    (slope,) = torch.autograd.grad(sum(t.square().sum() for t in belief.mean.values()), [images])
    assert bool(slope.abs().sum(dim=(1, 2, 3)).gt(0).all())


def test_an_attacker_who_does_not_know_the_defence_replays_without_it():
    task, batch, chain = tiny(), films(4), Chain(stages=(NOISY,))
    sent = client_update(task, task.state(), batch, FedSGD(), chain, 0)
    known, hidden = (
        observe(task, task.state(), sent, FedSGD(), chain, ThreatModel(knows_defence=knows), None)
        for knows in (True, False)
    )
    assert known.simulate(batch).variance is not None
    assert hidden.simulate(batch).variance is None
    close(hidden.simulate(batch).mean, mean_gradient(task, task.state(), batch), rtol=1e-4, atol=1e-6)


def test_an_optimiser_that_is_not_linear_trains_but_is_not_replayed():
    protocol = FedAvg(local_steps=2, learning_rate=0.1, optimiser="adamw")
    assert all(tensor.isfinite().all() for tensor in update(protocol, NOISY).values())
    with pytest.raises(BadSetting, match="optimiser = 'sgd'"):
        replay(tiny(), tiny().state(), protocol, Chain(stages=(NOISY,)), films(4))
