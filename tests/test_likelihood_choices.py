"""The parts of an optimisation attack: likelihoods, parametrisations, prior, optimisers, replay."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attack_observations import SIDE, observe, smooth_images, tiny_task
from gradiograph.attacks.likelihoods import cosine, cosine_per_layer, misfit, squared_error
from gradiograph.attacks.optimisers import LBFGS, Adam, decay
from gradiograph.attacks.parametrisations import LowResolution, Pixels
from gradiograph.attacks.priors import total_variation
from gradiograph.attacks.replay import MIDPOINT_TOLERANCE, agrees, disagreement, exact, midpoint
from gradiograph.core.defence import Chain, Defence
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Belief
from gradiograph.protocols import FedAvg, FedSGD

NAMES = ("l2", "cosine", "cosine_per_layer", "channel")
PROTOCOLS = {
    "fedsgd": FedSGD(),
    "fedavg": FedAvg(local_steps=3, learning_rate=1e-3),
    "fedavg_mini": FedAvg(local_epochs=1, batch_size=2, learning_rate=1e-3),
}


@dataclass(frozen=True, kw_only=True)
class Known(Defence):
    """Sends what it gets; scored as Gaussian noise of this standard deviation."""

    std: float = 2.0

    def on_update(self, tensors, generator):
        return dict(tensors)

    def log_likelihood(self, seen, belief):
        return -sum((belief.mean[name] - seen[name]).square().sum() for name in seen) / (2 * self.std**2)


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def truth():
    return Batch(smooth_images(2), torch.tensor([0, 2]))


def random_tensors(*names: object) -> dict[str, torch.Tensor]:
    generator = stream(5, *names)
    shapes = {"conv.weight": (4, 3), "conv.bias": (4,), "head.weight": (2, 4), "head.bias": (2,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def joined(tensors, *prefixes):
    return torch.cat([t.flatten() for name, t in tensors.items() if name.startswith(prefixes or ("",))])


@pytest.mark.parametrize("protocol", ["fedsgd", "fedavg"])
@pytest.mark.parametrize("name", NAMES)
def test_the_truth_has_no_misfit_and_another_batch_has(task, truth, name, protocol):
    observation = observe(task, truth, PROTOCOLS[protocol])
    measure = misfit(name, observation)
    assert abs(measure(observation.simulate(truth)).item()) < 1e-6
    other = Batch(smooth_images(2, seed=9), truth.targets)
    assert measure(observation.simulate(other)).item() > 1e-3


def test_likelihoods_against_definitions_on_joined_vectors():
    seen, other = random_tensors("seen"), random_tensors("other")
    a, b = joined(other), joined(seen)
    similar = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(squared_error(seen)(Belief(other)), (a - b).square().sum() / b.square().sum())
    torch.testing.assert_close(cosine(seen)(Belief(other)), 1 - similar(a, b, dim=0))
    layers = [1 - similar(joined(other, layer), joined(seen, layer), dim=0) for layer in ("conv", "head")]
    torch.testing.assert_close(cosine_per_layer(seen)(Belief(other)), torch.stack(layers).mean())


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_cosines_ignore_the_scale_and_l2_does_not(scale):
    seen = random_tensors("seen")
    scaled = Belief({name: scale * tensor for name, tensor in seen.items()})
    assert abs(float(cosine(seen)(scaled))) < 1e-5
    assert abs(float(cosine_per_layer(seen)(scaled))) < 1e-5
    assert float(squared_error(seen)(scaled)) == pytest.approx((scale - 1) ** 2, rel=1e-3, abs=1e-6)


def test_a_layer_without_a_trace_is_left_out_and_dead_candidates_stay_finite():
    seen = random_tensors("seen")
    dead = {name: torch.zeros_like(t) if name.startswith("head") else t for name, t in seen.items()}
    assert abs(float(cosine_per_layer(dead)(Belief(seen)))) < 1e-6
    for measure in (squared_error(seen), cosine(seen), cosine_per_layer(seen)):
        zeros = {name: torch.zeros_like(t, requires_grad=True) for name, t in seen.items()}
        value = measure(Belief(zeros))
        slopes = torch.autograd.grad(value, list(zeros.values()))
        assert value.item() == pytest.approx(1)
        assert all(slope.isfinite().all() for slope in slopes)


def test_channel_is_the_defences_own_likelihood_per_value_and_l2_without_one(task, truth):
    other = Batch(smooth_images(2, seed=9), truth.targets)
    clean = observe(task, truth)
    belief = clean.simulate(other)
    assert misfit("channel", clean)(belief) == misfit("l2", clean)(belief)

    defended = observe(task, truth, defence=Chain(stages=(Known(std=2.0),)))
    seen = defended.rounds[0][1].tensors
    errors = joined({name: belief.mean[name] - seen[name] for name in seen})
    torch.testing.assert_close(misfit("channel", defended)(belief), errors.square().mean() / 8)


def test_pixels_start_standard_normal_and_stay_in_the_box():
    latent = Pixels().start(4, (3, 32, 32), stream(0))
    assert latent.shape == (4, 3, 32, 32)
    assert latent.dtype == torch.float32
    assert abs(float(latent.mean())) < 0.05
    assert abs(float(latent.std()) - 1) < 0.05
    boxed = Pixels(centre=0.5, scale=0.25, boxed=True)
    latent = boxed.start(4, (3, 32, 32), stream(0))
    latent += 10 * torch.randn(latent.shape, generator=stream(1))
    boxed.project(latent)
    images = boxed.images(latent, (3, 32, 32))
    assert (float(images.min()), float(images.max())) == (0, 1)


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(3, 12, 12), (3, 10, 13)])
def test_low_resolution_covers_the_image(shape, interpolation, grey, channels):
    part = LowResolution(factor=4, grey=grey, interpolation=interpolation)
    latent = part.start(2, shape, stream(0)).requires_grad_()
    assert latent.shape == (2, channels, 3, -(-shape[2] // 4))
    images = part.images(latent, shape)
    assert images.shape == (2, *shape)
    assert torch.autograd.grad(images.sum(), latent)[0].all()
    flat = part.images(torch.full_like(latent, 0.3), shape)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
    if grey:
        assert (images == images[:, :1]).all()


def test_a_boxed_latent_stays_in_the_range_of_pixels_and_a_free_one_is_left_alone():
    latent = 3 * torch.randn(1, 1, 3, 3, generator=stream(0))
    free = latent.clone()
    LowResolution().project(free)
    assert torch.equal(free, latent)
    LowResolution(boxed=True).project(latent)
    assert torch.equal(latent, free.clamp(0, 1))


def test_low_resolution_refuses_volumes():
    with pytest.raises(BadSetting, match=r"\(1, 8, 8, 8\)"):
        LowResolution().start(1, (1, 8, 8, 8), stream(0))


def test_total_variation_against_a_loop_over_neighbours():
    images = torch.rand(2, 2, 4, 5, generator=stream(0))
    down = [abs(float(images[b, c, i + 1, j] - images[b, c, i, j])) for b in (0, 1) for c in (0, 1)
            for i in range(3) for j in range(5)]  # fmt: skip
    right = [abs(float(images[b, c, i, j + 1] - images[b, c, i, j])) for b in (0, 1) for c in (0, 1)
             for i in range(4) for j in range(4)]  # fmt: skip
    assert float(total_variation(images)) == pytest.approx(sum(down) / len(down) + sum(right) / len(right), rel=1e-5)
    assert float(total_variation(torch.full((1, 1, 3, 3), 0.7))) == 0
    assert float(total_variation(torch.rand(2, 1, 1, 1, generator=stream(0)))) == 0


def test_schedules():
    assert [decay("step", share) for share in (0.37, 0.38, 0.63, 0.88)] == pytest.approx([1, 0.1, 0.01, 0.001])
    assert [decay("cosine", share) for share in (0, 0.5, 1)] == pytest.approx([1, 0.55, 0.1])


def quadratic(variable, target, scales):
    """A closure on |variable - target|^2, multiplied by another scale at every call."""

    def closure():
        value = next(scales) * (variable.detach() - target).square().sum()
        variable.grad = 2 * (variable.detach() - target) * value / (variable.detach() - target).square().sum()
        return value

    return closure


def test_signed_adam_does_not_see_the_scale_of_the_gradient_and_adam_does():
    target = torch.tensor([1.0, -2.0, 3.0])
    ends = {}
    for signed in (True, False):
        for scales in ((1.0, 1.0, 1.0), (1.0, 100.0, 0.01)):
            variable = torch.zeros(3, requires_grad=True)
            step = Adam(learning_rate=0.1, signed=signed).start([variable], 3)
            closure = quadratic(variable, target, iter(scales))
            for count in range(3):
                step(closure, count)
            ends[signed, scales[1]] = variable.detach()
    torch.testing.assert_close(ends[True, 1.0], ends[True, 100.0])
    torch.testing.assert_close(ends[True, 1.0], 0.3 * target.sign())
    assert (ends[False, 1.0] - ends[False, 100.0]).abs().max() > 0.01


def test_lbfgs_solves_a_quadratic_and_returns_the_objective_before_its_move():
    target = torch.tensor([1.0, -2.0, 3.0])
    variable = torch.zeros(3, requires_grad=True)
    step = LBFGS(learning_rate=1.0).start([variable], 1)
    ones = iter(lambda: 1.0, None)
    assert step(quadratic(variable, target, ones), 0) == pytest.approx(14)
    torch.testing.assert_close(variable.detach(), target)


def test_the_midpoint_of_one_step_is_the_protocol(task, truth):
    observation = observe(task, truth, FedAvg(local_steps=1, learning_rate=0.5))
    other = Batch(smooth_images(2, seed=9), truth.targets)
    found, right = midpoint(observation)(other).mean, exact(observation)(other).mean
    for name, tensor in right.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("protocol", "agreed"),
    [
        (FedAvg(local_steps=5, learning_rate=1e-4), True),
        (FedAvg(local_epochs=1, batch_size=1, learning_rate=1e-4), True),
        (FedAvg(local_steps=5, learning_rate=0.3), False),
        (FedAvg(local_steps=5, learning_rate=1e-4, optimiser="adamw"), False),
    ],
    ids=["small", "mini_batches", "large", "adamw"],
)
def test_the_midpoint_notices_where_it_fails(task, truth, protocol, agreed):
    observation = observe(task, truth, protocol)
    for batch in (truth, Batch(smooth_images(2, seed=9), truth.targets)):
        assert agrees(midpoint(observation), exact(observation), batch) == agreed


def test_the_midpoint_is_of_second_order_at_the_truth(task, truth):
    found = []
    for learning_rate in (0.001, 0.0005):
        observation = observe(task, truth, FedAvg(local_steps=4, learning_rate=learning_rate))
        left, right = midpoint(observation)(truth).mean, exact(observation)(truth).mean
        error = sum((left[name] - right[name]).square().sum().item() for name in right)
        found.append((error / sum(tensor.square().sum().item() for tensor in right.values())) ** 0.5)
    assert 3 < found[0] / found[1] < 5.5


def test_disagreement_sees_scale_direction_small_layers_and_what_is_not_finite():
    seen = random_tensors("seen")
    assert disagreement(seen, seen) == 0
    assert disagreement({name: 1.2 * tensor for name, tensor in seen.items()}, seen) == pytest.approx(0.2, rel=1e-3)
    small = {**seen, "head.bias": 1e-6 * seen["head.bias"]}
    assert disagreement({**small, "head.bias": -small["head.bias"]}, small) == pytest.approx(2)
    assert disagreement({name: torch.zeros_like(t) for name, t in seen.items()}, seen) == pytest.approx(1)
    assert disagreement({**seen, "conv.bias": torch.full((4,), torch.nan)}, seen) == float("inf")
    assert MIDPOINT_TOLERANCE < 0.2


def test_a_replay_carries_the_gradient_to_the_images(task, truth):
    observation = observe(task, truth, PROTOCOLS["fedavg_mini"])
    for replay in (midpoint(observation), exact(observation)):
        images = torch.rand(2, 1, SIDE, SIDE, generator=stream(0)).requires_grad_()
        value = misfit("l2", observation)(replay(Batch(images, truth.targets)))
        assert torch.autograd.grad(value, images)[0].abs().sum() > 0
