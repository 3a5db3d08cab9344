"""A film's brightness and contrast are believed in, so that a search under noise does not end at a dark film."""

from dataclasses import replace

import pytest
import torch

from attack_observations import ignore, observe
from gradiograph.attacks.exposure import exposure, exposure_of
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.parametrisations import Eigen
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.data import Phantom
from gradiograph.attacks.eigen import fit_eigen, save_prior
from gradiograph.defences import GaussianNoise
from gradiograph.tasks import SmallCNN


@pytest.fixture(scope="module")
def films():
    data = Phantom(image_size=64, patients=40)
    return torch.from_numpy(data.read(list(range(32))))


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
