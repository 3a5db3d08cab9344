"""How strong each spatial frequency is in what a prior leaves of a film.

A prior holds the coarse structure of a film and leaves its edges and fine lines: most at middle frequencies, little at
the highest. Taken for white, a search pays for what it cannot explain with grain, which costs as little as an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

GREY_LEVEL = 1 / 255
ROUNDING = GREY_LEVEL**2 / 12
"""Variance of a pixel that was rounded to grey levels: in every film, and at every frequency."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PowerSpectrum:
    """How strong each spatial frequency is in stationary images that are alike in all directions.

    Attributes:
        amplitude: (H, W // 2 + 1), positive, as `torch.fft.rfft2` orders frequencies; its mean square over all of an
            image's frequencies is 1.
    """

    amplitude: Tensor

    def coloured(self, white: Tensor) -> Tensor:
        """White images (..., H, W) -> images with this spectrum, of the same mean square on average."""
        images: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * self.amplitude.to(white), s=white.shape[-2:])
        return images

    def whitened(self, images: Tensor) -> Tensor:
        """The white images that `coloured` makes these of."""
        white: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) / self.amplitude.to(images), s=images.shape[-2:])
        return white


def power_spectrum(left: Tensor) -> PowerSpectrum:
    """The spectrum of what was left of some films.

    Args:
        left: (n, channels, H, W).
    """
    height, width = left.shape[-2:]
    power = torch.fft.fft2(left, norm="ortho").abs().square().mean(dim=(0, 1)) + ROUNDING
    down, right = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    ring = (min(height, width) * torch.hypot(down[:, None], right[None])).round().long().to(left.device)
    sums = power.new_zeros(int(ring.max()) + 1).index_add(0, ring.flatten(), power.flatten())
    rings = sums / ring.flatten().bincount()
    amplitude = (rings[ring] / power.mean()).sqrt()
    return PowerSpectrum(amplitude=amplitude[:, : width // 2 + 1])
