"""What the search moves: a latent, and the images that it stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.eigen import EigenPrior
    from gradiograph.attacks.power_spectrum import PowerSpectrum

FARTHEST = 4.0
"""How far a coordinate of an eigen latent may lie from the mean, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Parametrisation(ABC):
    """A differentiable map from a latent to images (B, C, *spatial)."""

    @abstractmethod
    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """A random latent for `count` images of this shape, drawn on the CPU."""

    @abstractmethod
    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """The images of a latent, differentiably."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """The latent whose images are nearest to these (B, C, *spatial), or a good approximation; not projected."""

    @abstractmethod
    def project(self, latent: Tensor) -> None:
        """Put the latent back where it may lie, in place, after each step."""


@dataclass(frozen=True, kw_only=True)
class Pixels(Parametrisation):
    """Each pixel by itself: image = centre + scale * latent, the latent drawn from N(0, 1).

    Args:
        centre: Pixel value of a latent of zero.
        scale: Pixel value of a latent of one, beyond the centre.
        boxed: Keep the images in [0, 1] by projection after each step.
    """

    centre: float = 0.0
    scale: float = 1.0
    boxed: bool = False

    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(count, *image_shape), from N(0, 1), inside the box."""
        latent = torch.randn(count, *image_shape, generator=generator)
        self.project(latent)
        return latent

    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """Centre + scale * latent."""
        return self.centre + self.scale * latent

    def encode(self, images: Tensor) -> Tensor:
        """(images - centre) / scale: the inverse."""
        return (images - self.centre) / self.scale

    def project(self, latent: Tensor) -> None:
        """Clamp so that the images lie in [0, 1]."""
        if self.boxed:
            latent.clamp_(-self.centre / self.scale, (1 - self.centre) / self.scale)


@dataclass(frozen=True, kw_only=True)
class LowResolution(Parametrisation):
    """A smaller picture, upsampled: fewer unknowns, smooth images (Yue et al. 2023, arXiv 2206.04055, section 4.2).

    Args:
        factor: Height and width of the latent are those of the image divided by this, rounded up.
        grey: One latent channel, repeated to all channels of the image: radiographs are grey.
        interpolation: How the latent is upsampled.
        boxed: Keep the latent in [0, 1] by projection after each step. A likelihood that ignores the update's scale
            barely sees the image's contrast either, where the network is nearly homogeneous (ReLU without biases);
            without the box the latent leaves the range of pixels.
    """

    factor: int = 4
    grey: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    boxed: bool = False

    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(count, C or 1, ceil(H / factor), ceil(W / factor)), from U(0, 1).

        Raises:
            BadSetting: the images are not two-dimensional.
        """
        return torch.rand(count, 1 if self.grey else image_shape[0], *self._small(image_shape), generator=generator)

    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """The latent, upsampled to the image's height and width."""
        channels, *sides = image_shape
        images = F.interpolate(latent, size=sides, mode=self.interpolation, align_corners=False)
        return images.expand(-1, channels, -1, -1) if self.grey else images

    def encode(self, images: Tensor) -> Tensor:
        """The mean of the pixels that each latent pixel covers, and of the channels where grey.

        Raises:
            BadSetting: the images are not two-dimensional.
        """
        small = F.interpolate(images, size=self._small(tuple(images.shape[1:])), mode="area")
        return small.mean(dim=1, keepdim=True) if self.grey else small

    def project(self, latent: Tensor) -> None:
        """Clamp to [0, 1] where boxed."""
        if self.boxed:
            latent.clamp_(0, 1)

    def _small(self, image_shape: tuple[int, ...]) -> list[int]:
        if len(image_shape) != 3:
            msg = (
                f"A low-resolution latent is made for images (C, H, W); the task's have the shape {image_shape}. "
                "Choose an attack on pixels, such as 'inverting_gradients'."
            )
            raise BadSetting(msg)
        return [ceil(side / self.factor) for side in image_shape[1:]]


@dataclass(frozen=True, kw_only=True)
class Eigen(Parametrisation):
    """The principal components of public films; the latent in units of their standard deviations.

    Args:
        prior: The mean, the components and the standard deviations.
    """

    prior: EigenPrior

    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(count, K), from N(0, 0.1^2): near the mean film.

        Raises:
            BadSetting: the prior is for images of another shape.
        """
        self._require(image_shape)
        return 0.1 * torch.randn(count, len(self.prior.std), generator=generator)

    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """Mean plus the weighted sum of the components; may leave [0, 1].

        Raises:
            BadSetting: the prior is for images of another shape.
        """
        self._require(image_shape)
        return self.prior.images(latent)

    def encode(self, images: Tensor) -> Tensor:
        """The coordinates of the images' projection; see `EigenPrior.encode`."""
        return self.prior.encode(images)

    def project(self, latent: Tensor) -> None:
        """Clamp to `FARTHEST` standard deviations, where a normal latent hardly ever lies."""
        latent.clamp_(-FARTHEST, FARTHEST)

    def _require(self, image_shape: tuple[int, ...]) -> None:
        if image_shape != self.prior.image_shape:
            msg = f"The prior is for images of shape {self.prior.image_shape}, the task's have {image_shape}."
            raise BadSetting(f"{msg} Give a prior of that shape: `gradiograph prior train FILE`.")


@dataclass(frozen=True, kw_only=True)
class Around(Parametrisation):
    """What another latent shows, and each pixel's distance from it, in units of what it usually leaves of a film.

    After GIAS (Jeon et al. 2021, arXiv 2110.14962) and GIFD (Fang et al. 2023, arXiv 2308.04699), which leave a
    generator's range by its weights or its inner features. With N(0, 1) on both parts the images are those of
    probabilistic principal component analysis (Tipping and Bishop 1999), or of a generator with its own noise.

    Args:
        inner: The other latent, (B, K).
        count: K.
        sigma: Root mean square per pixel of what it leaves of a film.
        planes: 1 where the films are grey, otherwise their channels.
        spectrum: The amplitude of what it leaves at each spatial frequency; None where every pixel is by itself.
    """

    inner: Parametrisation
    count: int
    sigma: float
    planes: int
    spectrum: PowerSpectrum | None = None

    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(count, K + P): the other latent's start, and zeros beside it.

        Raises:
            BadSetting: as of the other latent.
        """
        pixels = self.planes * prod(image_shape[1:])
        return torch.cat([self.inner.start(count, image_shape, generator), torch.zeros(count, pixels)], dim=1)

    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """The other latent's images plus sigma times the rest; may leave [0, 1].

        Raises:
            BadSetting: as of the other latent.
        """
        shown, rest = latent[:, : self.count], latent[:, self.count :]
        beside = rest.reshape(len(latent), self.planes, *image_shape[1:])
        if self.spectrum is not None:
            beside = self.spectrum.coloured(beside)
        return self.inner.images(shown, image_shape) + self.sigma * beside

    def encode(self, images: Tensor) -> Tensor:
        """The other latent of these images, and what it leaves of them."""
        latent = self.inner.encode(images)
        left = (images - self.inner.images(latent, tuple(images.shape[1:]))) / self.sigma
        if self.planes == 1:
            left = left.mean(dim=1, keepdim=True)
        if self.spectrum is not None:
            left = self.spectrum.whitened(left)
        return torch.cat([latent, left.flatten(1)], dim=1)

    def project(self, latent: Tensor) -> None:
        """Project the other latent; a pixel stays within a whole range, from black to white, of what that shows.

        With a spectrum this holds for the white pixels that are coloured by it.
        """
        self.inner.project(latent[:, : self.count])
        latent[:, self.count :].clamp_(-1 / self.sigma, 1 / self.sigma)
