"""What a prior leaves of films: its spectrum, and the search that moves in it."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from gradiograph.attacks.eigen import fit_eigen
from gradiograph.attacks.film_latent import FilmLatent
from gradiograph.attacks.parametrisations import Eigen
from gradiograph.attacks.power_spectrum import GREY_LEVEL, power_spectrum
from gradiograph.core.random import stream

SIDES = (18, 24)


def blurred(count):
    """White noise that every 3 x 3 window is averaged of, around the edges as well."""
    white = torch.randn(count, 1, *SIDES, generator=stream(0, "white"))
    return avg_pool2d(torch.nn.functional.pad(white, (1, 1, 1, 1), mode="circular"), 3, stride=1)


def test_noise_of_a_spectrum_has_the_spectrum_that_was_measured():
    spectrum = power_spectrum(blurred(256))
    white = torch.randn(256, 1, *SIDES, generator=stream(1, "white"))
    again = power_spectrum(spectrum.coloured(white))
    torch.testing.assert_close(again.amplitude, spectrum.amplitude, rtol=0.15, atol=0.02)
    assert spectrum.coloured(white).square().mean() == pytest.approx(1, abs=0.05)
    assert spectrum.amplitude[0, 1] > 5 * spectrum.amplitude[SIDES[0] // 2, -1]
    torch.testing.assert_close(spectrum.whitened(spectrum.coloured(white)), white, rtol=0, atol=1e-4)


def test_white_noise_and_nothing_are_white():
    white = GREY_LEVEL * torch.randn(512, 1, *SIDES, generator=stream(0, "white"))
    for left in (white, torch.zeros(1, 1, *SIDES)):
        amplitude = power_spectrum(left).amplitude
        assert amplitude.shape == (SIDES[0], SIDES[1] // 2 + 1)
        torch.testing.assert_close(amplitude, torch.ones_like(amplitude), rtol=0, atol=0.1)


def test_around_a_prior_a_smooth_rest_is_more_probable_than_grain():
    films = (0.5 + 0.1 * blurred(40)).clamp(0, 1)
    prior = fit_eigen(films, 5)
    plain = FilmLatent(inner=Eigen(prior=prior), count=5, sigma=prior.residual, planes=1, image_shape=(1, *SIDES))
    assert plain.around().spectrum is None
    around = plain.around(films)
    torch.testing.assert_close(around.images(around.encode(films), (1, *SIDES)), films, rtol=0, atol=1e-5)

    def surprise(rest):
        latent = torch.cat([around.encode(images)[:, 5:] for images in (films[:1], films[:1] + rest)])
        return float(latent.square().sum(dim=1).diff())

    smooth = prior.residual * torch.cos(torch.arange(SIDES[1]) * 2 * torch.pi / 12).expand(1, 1, *SIDES)
    grain = prior.residual * torch.cos(torch.arange(SIDES[1]) * torch.pi).expand(1, 1, *SIDES) / 2**0.5
    assert surprise(smooth) < 0.5 * surprise(grain)
