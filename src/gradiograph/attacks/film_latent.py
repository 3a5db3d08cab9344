"""A latent of films that was learned from public ones: components or a generator, and what these lack of a film."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradiograph.attacks.eigen import load_prior
from gradiograph.attacks.exposure import Exposure, exposure_of
from gradiograph.attacks.generator import load_generator
from gradiograph.attacks.parametrisations import Around, Eigen, Parametrisation
from gradiograph.attacks.power_spectrum import GREY_LEVEL, power_spectrum

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FilmLatent:
    """A latent whose values are believed to be N(0, 1).

    Attributes:
        inner: The films of the latent.
        count: Its width.
        sigma: Root mean square per pixel of what it leaves of a film, a grey level at least.
        planes: 1 where the films are grey, otherwise their channels.
        image_shape: (C, H, W).
    """

    inner: Parametrisation
    count: int
    sigma: float
    planes: int
    image_shape: tuple[int, ...]

    @classmethod
    def of_components(cls, file: Path, image_shape: tuple[int, ...]) -> FilmLatent:
        """Of a file that `gradiograph prior train` wrote; raises `BadInput` where it does not fit the images."""
        prior = load_prior(file, image_shape)
        planes = 1 if prior.is_grey else image_shape[0]
        return cls(
            inner=Eigen(prior=prior),
            count=len(prior.std),
            sigma=max(prior.residual, GREY_LEVEL),
            planes=planes,
            image_shape=image_shape,
        )

    @classmethod
    def of_generator(cls, file: Path, image_shape: tuple[int, ...]) -> FilmLatent:
        """Of one that `gradiograph prior train --kind generator` wrote; raises `BadInput` where it does not fit."""
        generated = load_generator(file, image_shape)
        network = generated.network
        return cls(
            inner=generated,
            count=len(network.std),
            sigma=max(float(network.log_sigma.exp()), GREY_LEVEL),
            planes=network.shape[0],
            image_shape=image_shape,
        )

    def around(self, films: Tensor | None = None) -> Around:
        """The latent, and what it lacks of a film beside it.

        Args:
            films: (n, C, H, W): films that show the spectrum of what it lacks. None: every pixel is by itself.
        """
        around = Around(inner=self.inner, count=self.count, sigma=self.sigma, planes=self.planes)
        if films is None:
            return around
        left = films - self.inner.images(self.inner.encode(films), self.image_shape)
        return replace(around, spectrum=power_spectrum(left))

    def exposure(self, weight: float) -> Exposure:
        """Brightness and contrast of its films, counted as often as the weight says."""
        return exposure_of(self.inner, self.count, self.image_shape, weight)
