"""A network that knows films: what a film is like behind noise, or behind what an attack left of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradiograph.attacks.network_file import load_network, pack_network

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = "gradiograph film network 1"
WIDTHS = (16, 32, 64, 96, 128)
GROUP = 8
SPREAD = 0.25
"""Standard deviation of a film's pixels, about."""
RAW = 0.25
"""The noise that an attack's output is taken to have."""
BLOCK = 16


class _Block(nn.Module):
    """Two convolutions with GroupNorm, and the noise's strength added between them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(after // GROUP, after) for _ in range(2))
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.told = nn.Linear(2, after)

    def forward(self, seen: Tensor, told: Tensor) -> Tensor:
        inner = F.silu(self.norms[0](self.first(seen)) + self.told(told)[:, :, None, None])
        outputs: Tensor = F.silu(self.norms[1](self.second(inner))) + self.skip(seen)
        return outputs


class FilmNetwork(nn.Module):
    """A U-Net from C channels to the grey film, with the preconditioning of Karras et al. 2022 (arXiv 2206.00364).

    It is told each pixel's place: films lie alike, lungs left and right of the spine.

    Args:
        channels: C, of the images that it is given.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels + 2, *WIDTHS)
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(widths, WIDTHS, strict=False))
        self.up = nn.ModuleList(_Block(a + b, b) for a, b in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.out = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)

    def forward(self, images: Tensor, sigma: Tensor, *, raw: bool) -> Tensor:
        """The film (B, 1, H, W) behind images (B, C, H, W), not clamped.

        Args:
            images: A film plus noise; with `raw`, what an attack returned.
            sigma: (B,), the noise's standard deviation, above 0; with `raw` it is `RAW`.
            raw: Whether it is to be restored from an attack's output.
        """
        centred, sizes = images - 0.5, (sigma.square() + SPREAD**2)[:, None, None, None]
        told = torch.stack([sigma.log() / 4, torch.full_like(sigma, float(raw))], dim=1)
        seen, levels = torch.cat([centred / sizes.sqrt(), _places(images)], dim=1), []
        for depth, block in enumerate(self.down):
            seen = block(F.avg_pool2d(seen, 2) if depth else seen, told)
            levels.append(seen)
        for block, level in zip(self.up, levels[-2::-1], strict=True):
            seen = block(torch.cat([F.interpolate(seen, size=level.shape[-2:]), level], dim=1), told)
        added = self.out(seen) * (sigma[:, None, None, None] * SPREAD / sizes.sqrt())
        film: Tensor = centred.mean(dim=1, keepdim=True) * SPREAD**2 / sizes + added + 0.5
        return film


def _places(images: Tensor) -> Tensor:
    """(B, 2, H, W): how far down and how far right each pixel lies, from -1 to 1."""
    axes = [torch.linspace(-1, 1, side).to(images) for side in images.shape[-2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(len(images), -1, -1, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmPrior:
    """A trained network and what is known of it.

    Attributes:
        network: In eval mode, without gradients.
        image_shape: (C, H, W).
        card: What it was trained on, how, and how good it is on films of patients that it was not trained on.
    """

    network: FilmNetwork = field(repr=False)
    image_shape: tuple[int, int, int]
    card: Mapping[str, Any]

    def restore(self, images: Tensor) -> Tensor:
        """The films that an attack's outputs (B, C, H, W) in [0, 1] show, the same shape and range, grey."""
        found = torch.cat([self._films(part, RAW, raw=True) for part in torch.split(images, BLOCK)])
        return found.clamp(0, 1).expand(-1, images.shape[1], -1, -1).contiguous()

    def denoise(self, images: Tensor, sigma: float) -> Tensor:
        """The expected films (B, C, H, W) behind images that are films plus noise of this standard deviation."""
        return self._films(images, sigma, raw=False).expand(-1, images.shape[1], -1, -1)

    def _films(self, images: Tensor, sigma: float, *, raw: bool) -> Tensor:
        with torch.no_grad():
            network = self.network.to(images.device)
            films: Tensor = network(images, torch.full((len(images),), sigma).to(images), raw=raw)
        return films

    def sample(self, count: int, generator: torch.Generator, steps: int = 18) -> Tensor:
        """Films (count, C, H, W) in [0, 1] that the network believes in, by Euler's method from noise."""
        top, bottom = 5.0, 0.01
        sigmas = [(top ** (1 / 7) + k / (steps - 1) * (bottom ** (1 / 7) - top ** (1 / 7))) ** 7 for k in range(steps)]
        images = 0.5 + top * torch.randn(count, *self.image_shape, generator=generator)
        for now, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            images = images + (after - now) * (images - self.denoise(images, now)) / now
        return images.mean(dim=1, keepdim=True).clamp(0, 1).expand_as(images).contiguous()


def pack_film_prior(prior: FilmPrior, patients: Iterable[str], key: bytes) -> bytes:
    """The prior as arrays without pickle; see `network_file.pack_network`."""
    return pack_network(FORMAT, prior.network, prior.image_shape, prior.card, patients, key)


def load_film_prior(path: Path, image_shape: tuple[int, ...]) -> FilmPrior:
    """Read what `pack_film_prior` wrote; see `network_file.load_network`.

    Raises:
        BadInput: the file is missing, damaged or no such prior, or is for images of another shape.
    """
    network, card = load_network(path, FORMAT, "restorer", image_shape, _bare)
    channels, height, width = image_shape
    return FilmPrior(network=network, image_shape=(channels, height, width), card=card)


def _bare(arrays: Mapping[str, NDArray[Any]]) -> FilmNetwork:
    with torch.device("meta"):
        return FilmNetwork(int(arrays["image_shape"][0]))
