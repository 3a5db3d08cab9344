"""The likelihood of what a channel hid, as a quadratic: known slopes and weights; rows and columns of its factors."""

from dataclasses import replace

import pytest
import torch

from attack_observations import observe, smooth_images, tiny_task
from gradiograph.attacks.dense_layer import SeenLayer
from gradiograph.attacks.feature_space import FeatureSpace
from gradiograph.attacks.hidden import Quadratic, forgets_size, hidden_share, quadratic
from gradiograph.attacks.scores import hidden_scores
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.defences import QSGD, GaussianNoise, SignSGD, TopK, UniformQuantisation

NAME = "5.weight"


def observed(defence, clean=None):
    """The tiny network's observation under a defence, its dense update replaced by `clean` where that is given."""
    found = observe(tiny_task(), Batch(smooth_images(2), torch.tensor([0, 1])), defence=Chain(stages=(defence,)))
    if clean is None:
        return found
    task = replace(found.task, trainable=(NAME,))
    state, update = found.rounds[0]
    sent = replace(update, tensors=defence.on_update({NAME: clean}, stream(0, "defence")))
    return replace(found, task=task, rounds=((state, sent),))


def seen_layer(found):
    return SeenLayer.of(found, NAME, stream(0, "probes"))


def test_behind_gaussian_noise_it_is_exact():
    found = observed(GaussianNoise(std=0.5))
    layer = seen_layer(found)
    seen = layer.gradient[NAME]
    mean = torch.full_like(seen, 0.2)
    near = quadratic(found, layer, mean, torch.tensor(0.04))
    precision = 1 / (0.04 + (0.5 / layer.scale) ** 2)
    torch.testing.assert_close(near.slope, precision * (seen - mean), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(near.weight, torch.full_like(seen, precision), rtol=1e-2, atol=1e-4)


def test_behind_a_quantiser_the_slope_leads_into_the_cell():
    found = observed(UniformQuantisation(bits=3))
    layer = seen_layer(found)
    seen = layer.gradient[NAME]
    half, variance = float(seen.abs().max()) / 6, seen.square().mean()
    near = quadratic(found, layer, torch.zeros_like(seen), variance)
    assert ((variance * near.slope - seen).abs() <= half * 1.01).all()
    assert (variance * near.slope != seen).any()


def test_some_columns_are_looked_at_as_all_are():
    found = observed(GaussianNoise(std=0.5))
    layer = seen_layer(found)
    mean = torch.zeros_like(layer.gradient[NAME])
    some = torch.tensor([3, 1])
    whole = quadratic(found, layer, mean, torch.tensor(1.0))
    part = quadratic(found, layer, mean[:, some], torch.tensor(1.0), (torch.arange(len(mean)), some))
    torch.testing.assert_close(part.slope, whole.slope[:, some])


def test_rows_and_columns_are_the_derivatives_by_the_factors():
    draw = lambda *shape: torch.rand(*shape, generator=stream(0, *map(str, shape)), dtype=torch.float64)  # noqa: E731
    near, mixing, features = Quadratic(draw(5, 7), draw(5, 7) + 1), draw(5, 2), draw(2, 7)

    def value(mixing, features, mixing_0=mixing, features_0=features):
        change = mixing @ features - mixing_0 @ features_0
        return (near.slope * change - 0.5 * near.weight * change.square()).sum()

    for place, (slopes, precisions) in enumerate((near.rows(features), near.columns(mixing))):
        first = torch.autograd.functional.jacobian(value, (mixing, features))[place]
        second = torch.autograd.functional.hessian(value, (mixing, features))[place][place]
        expected = first if place == 0 else first.T
        torch.testing.assert_close(slopes, expected)
        for line in range(len(slopes)):
            block = second[line, :, line] if place == 0 else second[:, line, :, line]
            torch.testing.assert_close(precisions[line], -block)
    moved = near.moved(torch.ones(5, 7))
    torch.testing.assert_close(moved.slope, near.slope - near.weight)


@pytest.mark.parametrize(
    ("defence", "expected"),
    [
        (GaussianNoise(std=0.1), False),
        (QSGD(levels=4), False),
        (TopK(sparsity=0.5), True),
        (UniformQuantisation(bits=3), True),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else str(value),
)
def test_only_channels_that_move_values_hide(defence, expected):
    clean = torch.rand(60, 300, generator=stream(0, "clean"))
    assert (hidden_share(observed(defence, clean), NAME, clean) > 1e-4) is expected


def test_only_signs_without_a_scale_forget_how_large_an_update_is():
    assert forgets_size(observed(SignSGD()), NAME)
    for defence in (SignSGD(scale="mean_abs"), TopK(sparsity=0.5), GaussianNoise(std=0.1)):
        assert not forgets_size(observed(defence), NAME)
    assert seen_layer(observed(SignSGD())).gradient[NAME].norm() < 1e3


@pytest.mark.parametrize("defence", [TopK(sparsity=0.9), UniformQuantisation(bits=2)], ids=["top_k", "2_bits"])
def test_factors_are_found_behind_a_channel_that_hides_most(defence):
    generator = stream(0, "factors")
    scale = torch.randn(120, generator=generator)
    features = torch.rand(2, 20, generator=generator) @ torch.rand(20, 400, generator=generator)
    masks = (torch.rand(120, 2, generator=generator) > 0.5).float()
    clean = 1e-3 * (scale[:, None] * masks * torch.tensor([1.0, -0.8])) @ features
    found = observed(defence, clean)
    layer = seen_layer(found)
    space = torch.linalg.qr(
        torch.cat([features, torch.rand(20, 400, generator=generator)]).T
        + 1e-3 * torch.rand(400, 22, generator=generator)
    ).Q.T
    known = FeatureSpace(space.contiguous(), torch.ones(22))
    scores = hidden_scores(found, layer, 2, scale, known, 12)
    inside = (features @ scores.basis.T).norm(dim=1) / features.norm(dim=1)
    raw = torch.linalg.svd(layer.gradient[NAME], full_matrices=False).Vh[:2]
    before = (features @ raw.T).norm(dim=1) / features.norm(dim=1)
    assert (1 - inside < 0.3 * (1 - before)).all(), (inside, before)
    assert (scores.errors > 0).all()
