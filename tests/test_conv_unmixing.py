"""`conv_unmixing`: each film's inputs to a convolution out of its gradient, and the films that have them."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from attack_observations import SIDE, ignore, observe, per_example, smooth_images, task_of
from gradiograph.attacks import ConvUnmixing
from gradiograph.attacks.conv_layers import ConvNetwork
from gradiograph.attacks.eigen import EigenPrior, load_prior, save_prior
from gradiograph.attacks.kernel_gradient import film_maps, fits
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput, BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import check
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.defences import GaussianNoise
from gradiograph.protocols import FedAvg
from gradiograph.testing import check_attack

SIDES, CHANNELS, OUTPUTS = (2, 3), 24, 10
DEEP = "4.weight"


def network(norm: str = "none", mode: str = "train", seed: int = 0) -> Task:
    """Two strided convolutions, and one on a 3 x 3 grid with a norm behind it."""
    norms = {"none": nn.Identity(), "batch": nn.BatchNorm2d(40), "group": nn.GroupNorm(4, 40)}
    with global_stream(seed, "weights"):
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 40, 3, padding=1),
            norms[norm],
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(40 * 9, 2),
        )
    return task_of(model, (1, SIDE, SIDE), mode=mode)


@pytest.fixture(scope="module")
def batch():
    return Batch(smooth_images(3), torch.tensor([0, 1, 1]))


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    """A prior of the pictures that `smooth_images` draws: nine values each."""
    basis = nn.functional.interpolate(torch.eye(9).reshape(9, 1, 3, 3), (SIDE, SIDE), mode="bilinear").flatten(1)
    _, std, directions = torch.linalg.svd(basis / 12**0.5, full_matrices=False)
    file = tmp_path_factory.mktemp("prior") / "prior.npz"
    mean = torch.full((SIDE**2,), 0.5)
    prior = EigenPrior(mean=mean, components=directions, std=std, residual=0.0, image_shape=(1, SIDE, SIDE))
    save_prior(prior, file, ["someone"])
    return file


def drawn(count, centred=False, channels=CHANNELS, outputs=OUTPUTS, sides=SIDES):
    """Sparse inputs and slopes of `count` images, and the gradient of a 3 x 3 kernel that they make."""
    generator = stream(0, "drawn", count)
    inputs = torch.randn(count, channels, *sides, generator=generator).clamp_min(0)
    slopes = torch.randn(count, outputs, *sides, generator=generator)
    if centred:
        slopes = slopes - slopes.mean(dim=(0, 2, 3), keepdim=True)
    return inputs, slopes, gradient_of(inputs, slopes)


def gradient_of(inputs, slopes):
    shape = (slopes.shape[1], inputs.shape[1], 3, 3)
    return nn.grad.conv2d_weight(inputs.double(), shape, slopes.double(), padding=1).float()


def cosines(found, truth):
    """The cosine of each true vector to the found one that is nearest."""
    return (nn.functional.normalize(truth.flatten(1)) @ nn.functional.normalize(found.flatten(1)).T).amax(dim=1)


def distances(found, truth, any_brightness=False):
    """The mean squared error of each found image (rows) to each true one, at the best brightness or as it is."""
    found, truth = found.flatten(1)[:, None], truth.flatten(1)[None]
    factor = (found * truth).sum(dim=2) / found.square().sum(dim=2) if any_brightness else torch.ones(1)
    return (factor[..., None] * found - truth).square().mean(dim=2)


@pytest.mark.parametrize("centred", [False, True])  # slopes that sum to zero, as behind BatchNorm in train mode
@pytest.mark.parametrize("count", [2, 3])
def test_a_kernels_gradient_tells_each_images_inputs_and_slopes(count, centred):
    inputs, slopes, gradient = drawn(count, centred)
    found = film_maps(gradient, count, SIDES, stream(0))
    assert (cosines(found.inputs, inputs) > 0.99999).all()
    assert (cosines(found.slopes, slopes) > 0.9999).all()
    assert torch.allclose(gradient_of(found.inputs, found.slopes), gradient, atol=1e-3 * float(gradient.abs().max()))
    assert len(found.disagreement) == count + 1
    assert found.disagreement[count - 1] < 1e-6 < 1e-3 < found.disagreement[count]


def test_a_wide_grid_is_told_as_well():
    sides = (9, 8)  # filters of 10,368 unknowns
    inputs, _, gradient = drawn(2, channels=160, outputs=40, sides=sides)
    found = film_maps(gradient, 2, sides, stream(0))
    assert (cosines(found.inputs, inputs) > 0.99999).all()


def test_images_whose_slopes_are_lost_are_not_told_and_the_others_are():
    inputs, slopes, gradient = drawn(2)
    found = film_maps(gradient, 3, SIDES, stream(0))
    assert found.inputs.shape == inputs.shape
    assert (cosines(found.inputs, inputs) > 0.99999).all()
    one = gradient_of(inputs[:1], slopes[:1])
    found = film_maps(one, 2, SIDES, stream(0))
    assert found.inputs.shape == inputs[:1].shape
    assert (cosines(found.inputs, inputs[:1]) > 0.99999).all()
    assert film_maps(torch.zeros_like(gradient), 2, SIDES, stream(0)) is None


def test_inputs_must_be_independent():
    assert fits(3, 24, (2, 3))
    assert not fits(4, 24, (2, 3))
    assert fits(1, 7, (2, 3))
    assert not fits(1, 7, (1, 1))


def test_the_layers_that_tell_images_apart():
    task = network()
    places = partial(ConvNetwork(task=task, state=task.state()).layers)
    assert [(layer.weight, layer.sides) for layer in places(3)] == [(DEEP, (3, 3))]
    assert not places(6)


@pytest.mark.parametrize(
    ("norm", "mode", "protocol"),
    [
        ("none", "train", None),
        ("none", "train", FedAvg(local_steps=3, learning_rate=1e-3)),
        ("group", "train", None),
        ("batch", "eval", None),
        ("batch", "train", None),
    ],
)
def test_films_and_labels_of_a_batch_are_found(batch, prior_file, norm, mode, protocol):
    observation = observe(network(norm, mode), batch, protocol, knows_labels=False)
    found = ConvUnmixing(prior=prior_file)(observation, stream(0), ignore)
    hides_brightness = norm == "group" or (norm, mode) == ("batch", "train")
    off = distances(found.images, batch.images, any_brightness=hides_brightness)
    order = off.argmin(dim=0)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert (off.amin(dim=0) < 0.002).all()
    assert found.targets[order].tolist() == batch.targets.tolist()
    assert found.flags == (("approximate",) if protocol else ())


def test_what_is_found_is_the_updates_and_not_the_priors(batch, prior_file):
    """The control: behind another update the same attack shows other films."""
    other = Batch(smooth_images(3, seed=5), batch.targets)
    found = ConvUnmixing(prior=prior_file)(observe(network(), other), stream(0), ignore).images
    assert float(distances(found, batch.images).min()) > 0.02
    assert float(distances(found, other.images).amin(dim=0).max()) < 0.002


def test_what_a_poor_prior_lacks_is_found_better_where_public_films_show_it(batch, prior_file, tmp_path):
    whole = load_prior(prior_file, (1, SIDE, SIDE))
    lacking = float((whole.std[3:].square().sum() / SIDE**2).sqrt())
    poor = replace(whole, components=whole.components[:3], std=whole.std[:3], residual=lacking)
    save_prior(poor, tmp_path / "poor.npz", ["someone"])
    attack, blind = ConvUnmixing(prior=tmp_path / "poor.npz"), observe(network(), batch, knows_labels=False)
    shown = replace(blind, public=Batch(smooth_images(16, seed=7), torch.tensor([0, 1] * 8)))
    off = [
        distances(attack(seen, stream(0), ignore).images, batch.images).amin(dim=0).mean() for seen in (blind, shown)
    ]
    assert off[1] < 0.7 * off[0]


def test_a_film_that_the_network_is_sure_of_is_not_told_and_the_others_are(batch, prior_file):
    sure = replace(network(), loss=lambda outputs, targets: per_example(outputs, targets) * (targets == 0))
    films = Batch(batch.images, torch.tensor([0, 1, 0]))
    found = ConvUnmixing(prior=prior_file)(observe(sure, films, knows_labels=False), stream(0), ignore)
    off = distances(found.images, batch.images).amin(dim=0)
    assert (off[[0, 2]] < 0.002).all()
    assert off[1] > 0.01
    assert found.flags == ("partial",)
    assert found.targets is None


def test_where_nothing_is_resolved_it_says_so(batch, prior_file):
    noise = Chain(stages=(GaussianNoise(snr=1e-4),))
    found = ConvUnmixing(prior=prior_file)(observe(network(), batch, defence=noise), stream(0), ignore)
    assert found.flags == ("unresolved",)
    assert found.targets is None
    assert torch.allclose(found.images, torch.full_like(found.images, 0.5))


def test_it_needs_one_latent_and_a_layer(prior_file, batch):
    for files in ({}, {"prior": prior_file, "generator": prior_file}):
        with pytest.raises(BadSetting, match="a prior or of a generator"):
            ConvUnmixing(**files)
    many = Batch(smooth_images(6), torch.tensor([0, 1] * 3))
    with pytest.raises(BadSetting, match="smaller batches"):
        ConvUnmixing(prior=prior_file)(observe(network(), many), stream(0), ignore)
    with pytest.raises(BadSetting, match="segments"):
        ConvUnmixing(prior=prior_file).check(replace(network(), segments=True))
    with pytest.raises(BadInput, match="shape"):
        ConvUnmixing(prior=prior_file).check(replace(network(), image_shape=(1, 2 * SIDE, 2 * SIDE)))


def test_it_keeps_an_attacks_contract(prior_file, batch):
    check("attack", {"use": "conv_unmixing", "prior": str(prior_file)})
    check_attack(lambda: ConvUnmixing(prior=prior_file, steps=12), task=network(), batch_size=2)
