"""A search through a network whose rectifiers are made smooth, and L-BFGS with a line search on it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attack_observations import SIDE, error, ignore, observe, smooth_images, tiny_task
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.smoothing import smooth_relu, smoothed
from gradiograph.audit.ceiling import at_rest
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.tensors import Batch
from gradiograph.testing import check_attack

VALUES = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 2.0]])


def rectified_task():
    with global_stream(3, "weights"):
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, stride=2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(16 * (SIDE // 2) ** 2, 3),
        )
    return replace(tiny_task(), model=model, trainable=tuple(name for name, _ in model.named_parameters()))


@pytest.mark.parametrize(
    "rectifier",
    [F.relu, torch.relu, nn.ReLU(inplace=True), F.leaky_relu, nn.LeakyReLU(0.3), nn.PReLU(), nn.PReLU(5), F.sigmoid],
)
def test_a_rectifier_is_itself_without_smoothing_and_near_itself_with_little(rectifier):
    with torch.no_grad():
        plain = rectifier(VALUES.clone())
        with smoothed(0.0):
            torch.testing.assert_close(rectifier(VALUES.clone()), plain, rtol=0, atol=0)
        with smoothed(0.01):
            torch.testing.assert_close(rectifier(VALUES.clone()), plain)


@pytest.mark.parametrize("rectifier", [F.relu, F.leaky_relu, nn.PReLU(5)])
def test_what_was_a_switch_is_a_ramp(rectifier):
    with smoothed(1.0):
        values = VALUES.clone().requires_grad_()
        (slope,) = torch.autograd.grad(rectifier(values).sum(), values, create_graph=True)
        (bend,) = torch.autograd.grad(slope[0, 2], values)
    assert 0.4 < slope[0, 2] < 0.7
    assert bend[0, 2] > 0.1


def test_a_layer_that_is_silent_has_finite_slopes():
    values = torch.zeros(1, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(smooth_relu(values, 0.5).sum(), values)
    assert torch.isfinite(slope).all()


def test_through_a_smooth_network_a_line_search_finds_the_film_that_descent_between_jumps_does_not():
    task, film = rectified_task(), Batch(smooth_images(2), torch.tensor([1, 2]))
    observation = observe(task, film)
    attack = partial(MaximumAPosteriori, factor=1, steps=300)
    plain = attack(optimiser="adam", smoothing=0)(observation, stream(0), ignore)
    smooth = attack()(observation, stream(0), ignore)
    assert error(smooth.images, film.images) < 0.2 * error(plain.images, film.images)


def test_the_last_value_of_the_objective_is_that_of_the_network_itself():
    task, film = rectified_task(), Batch(smooth_images(1), torch.tensor([1]))
    observation = observe(task, film)
    search = MaximumAPosteriori(factor=1, steps=20, smoothing=0.5)._fitted(task.image_shape)
    assert isinstance(search, GradientMatching)
    found = search.started_at(film.images)(observation, stream(0), ignore)
    still = at_rest(search.started_at(found.images), observation, stream(0))
    assert found.objective[-1] == pytest.approx(still.objective[0], rel=1e-4)


def test_the_contract_with_either_optimiser():
    check_attack(lambda: MaximumAPosteriori(steps=2, smoothing=0.5, optimiser="adam"))
    check_attack(lambda: MaximumAPosteriori(steps=25))


def test_a_density_that_is_drawn_anew_is_refused_beside_a_line_search(tmp_path):
    with pytest.raises(BadSetting, match='optimiser = "adam"'):
        MaximumAPosteriori(denoiser=tmp_path / "restorer.npz", optimiser="lbfgs")
