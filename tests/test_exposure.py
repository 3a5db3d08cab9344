"""A film's brightness and contrast are believed in, so that a search under noise does not end at a dark film."""

from dataclasses import replace

import pytest
import torch

from attack_observations import ignore, observe
from gradiograph.attacks.eigen import fit_eigen, save_prior
from gradiograph.attacks.exposure import exposure, exposure_of
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.parametrisations import Eigen
from gradiograph.attacks.search import Search
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.data.phantom import phantom
from gradiograph.defences import GaussianNoise
from gradiograph.tasks import small_cnn

SIDE = 32


@pytest.fixture(scope="module")
def films():
    data = phantom(image_size=SIDE, patients=60)
    return torch.from_numpy(data.read(list(range(50))))


def test_the_exposure_of_a_latents_films_is_near_that_of_the_films(films):
    prior = fit_eigen(films, 16)
    found = exposure_of(Eigen(prior=prior), len(prior.std), tuple(films.shape[1:]), 1.0)
    seen = exposure(films)
    assert torch.allclose(found.centre, seen.mean(dim=0), atol=0.03)
    assert ((found.spread / seen.std(dim=0)).log().abs() < 1).all()


def test_a_film_of_usual_exposure_surprises_least(films):
    prior = fit_eigen(films, 16)
    found = exposure_of(Eigen(prior=prior), len(prior.std), tuple(films.shape[1:]), 2.0)
    usual = found.surprise(films)
    assert usual < found.surprise(0.3 * films)
    assert usual < found.surprise(films.clamp(0.4, 0.6))
    assert torch.allclose(2 * usual, replace(found, weight=4.0).surprise(films))


def test_where_noise_hides_the_film_its_exposure_is_what_is_believed(films, tmp_path):
    save_prior(fit_eigen(films[4:], 32), tmp_path / "prior.npz")
    task = small_cnn((1, SIDE, SIDE), 3)
    observation = observe(task, Batch(films[:1], torch.tensor([1])), defence=Chain(stages=(GaussianNoise(std=10.0),)))
    attack = MaximumAPosteriori(prior=tmp_path / "prior.npz", steps=100)
    plain, aware = (replace(attack, exposure=weight)._fitted(task.image_shape, task) for weight in (0.0, 100.0))
    assert plain.exposure is None
    centre = exposure(plain(observation, stream(0), ignore).images)[0] + torch.tensor([0.05, 0.02])
    aware = replace(aware, exposure=replace(aware.exposure, centre=centre))
    found = exposure(aware(observation, stream(0), ignore).images)[0]
    torch.testing.assert_close(found, centre, atol=0.01, rtol=0)


def test_of_two_searches_the_better_is_chosen_by_its_exposure_too(films, tmp_path):
    save_prior(fit_eigen(films[4:], 32), tmp_path / "prior.npz")
    task = small_cnn((1, SIDE, SIDE), 3)
    observation = observe(task, Batch(films[:1], torch.tensor([1])), defence=Chain(stages=(GaussianNoise(std=10.0),)))
    attack = MaximumAPosteriori(prior=tmp_path / "prior.npz", steps=20, smoothing=0.0, replay="exact")
    search = Search(attack._fitted(task.image_shape, task), observation, stream(0))
    value, found = search.exact_value(), search.evaluate().item()
    believed = search.beliefs(search.batch(search.variables).images).item()
    assert value == pytest.approx(found, abs=0.01 * believed)
    assert believed > 0
