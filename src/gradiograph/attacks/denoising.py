"""The score of films as a prior: a network that denoises them says in which direction a film lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.film_network import FilmPrior

FIRST, LAST = 0.5, 0.02
"""Standard deviation of the noise at the beginning and at the end of a search, in units of the pixels."""


@dataclass(frozen=True, kw_only=True)
class DenoisingPrior:
    """Minus the log density of films, up to a constant, by a diffusion model's denoiser.

    RED-diff (Mardani et al. 2023, arXiv 2305.04391): half the squared distance of an image from what the denoiser makes
    of it behind noise, over the noise's variance; its slope is minus the score of films blurred by that noise. The
    noise falls geometrically, so that a search settles what a film is like before its details.

    Args:
        prior: The trained network.
        weight: 1 is the density.
    """

    prior: FilmPrior
    weight: float = 1.0

    def surprise(self, images: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """The scalar, differentiable in the images (B, C, H, W), in nats.

        Args:
            images: Where the search stands.
            share: Of the search that is done, in [0, 1].
            generator: Draws the noise on the CPU.
        """
        sigma = FIRST * (LAST / FIRST) ** share
        noise = torch.randn(images.shape, generator=generator).to(images)
        target = self.prior.denoise(images.detach() + sigma * noise, sigma)
        surprise: Tensor = 0.5 * self.weight * ((images - target).mean(dim=1) / sigma).square().sum()
        return surprise
