"""Brightness and contrast of films: what noise leaves open behind layers that normalise.

A network that normalises its inputs hides both, so that the update tells them faintly, and under noise not at all. The
normal density of a latent then decides, and its mode is no film: hundreds of coordinates are all more probable the
smaller they are, so that a dark and flat film with little of each is preferred to any real one. What is known of
films as a whole does not grow with the number of coordinates; it is counted as often as the mode counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.parametrisations import Parametrisation

_DRAWS = 256


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Normal densities of a film's mean and of its pixels' standard deviation.

    Attributes:
        centre: (2,): what both are in films.
        spread: (2,): how much they differ between films.
        weight: How often a film's log density is counted.
    """

    centre: Tensor
    spread: Tensor
    weight: float

    def surprise(self, images: Tensor) -> Tensor:
        """Minus the weighted log density of images (B, C, *spatial) in nats, up to a constant; a scalar."""
        centre, spread = self.centre.to(images), self.spread.to(images)
        return 0.5 * self.weight * ((exposure(images) - centre) / spread).square().sum()


def exposure(images: Tensor) -> Tensor:
    """Mean and standard deviation of each image's pixels, (B, 2).

    >>> exposure(torch.tensor([[[0.0, 1.0]]]))
    tensor([[0.5000, 0.5000]])
    """
    pixels = images.flatten(1)
    variance = pixels.var(dim=1, correction=0)
    return torch.stack([pixels.mean(dim=1), (variance + torch.finfo(pixels.dtype).tiny).sqrt()], dim=1)


def exposure_of(films: Parametrisation, width: int, image_shape: tuple[int, ...], weight: float) -> Exposure:
    """The exposure of the films that a latent of this width shows where it is drawn from N(0, 1)."""
    latent = torch.randn(_DRAWS, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = exposure(films.images(latent, image_shape).clamp(0, 1))
    return Exposure(centre=seen.mean(dim=0), spread=seen.std(dim=0), weight=weight)
