"""A latent generative prior: a variational autoencoder that begins as the principal components of public films.

The images are D(z) + sigma * r with z and r from N(0, 1) (Kingma and Welling 2014, arXiv 1312.6114). The decoder is the
components' sum plus what a convolutional network adds to it; without that it is probabilistic principal component
analysis, the optimum of a linear decoder (Lucas et al. 2019, arXiv 1911.02469).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradiograph.attacks.network_file import load_network, pack_network
from gradiograph.attacks.parametrisations import FARTHEST, Parametrisation
from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradiograph.attacks.eigen import EigenPrior

FORMAT = "gradiograph generator 1"
WIDTHS = (16, 32, 64, 96, 128)
GROUP = 8
SMALLEST = 4
"""Height and width at which the latent enters the decoder and leaves the encoder, about."""
BLOCK = 64


class _Block(nn.Module):
    """A convolution with GroupNorm around a skip."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norm, self.skip = nn.GroupNorm(after // GROUP, after), nn.Conv2d(before, after, 1)

    def forward(self, seen: Tensor) -> Tensor:
        outputs: Tensor = self.second(F.silu(self.norm(self.first(seen)))) + self.skip(seen)
        return outputs


class VariationalAutoencoder(nn.Module):
    """Encoder and decoder of films with `channels` planes, 1 where they are grey.

    Args:
        channels: Planes of a film.
        sides: (H, W).
        components: K, the latent's size.
    """

    mean: Tensor
    components: Tensor
    std: Tensor
    log_sigma: Tensor

    def __init__(self, channels: int, sides: tuple[int, int], components: int) -> None:
        super().__init__()
        pixels = channels * sides[0] * sides[1]
        self.shape = (channels, *sides)
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(components, pixels))
        self.register_buffer("std", torch.ones(components))
        self.register_buffer("log_sigma", torch.zeros(()))
        self.sizes = _sizes(sides)
        widths = WIDTHS[: len(self.sizes)]
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip((2 * channels, *widths), widths, strict=False))
        inner = widths[-1] * self.sizes[-1][0] * self.sizes[-1][1]
        self.told, self.spread = nn.Linear(inner, 2 * components), nn.Linear(components, inner)
        self.up = nn.ModuleList(
            _Block(a + channels, b) for a, b in zip((widths[-1], *widths[::-1]), widths[::-1], strict=False)
        )
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)
        for layer in (self.told, self.out):  # what is learned is added to the components', and begins at nothing
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def encode(self, films: Tensor) -> tuple[Tensor, Tensor]:
        """Films (B, channels, H, W) -> mean and log variance (B, K) of their latent."""
        flat = films.flatten(1)
        plain = (flat - self.mean) @ self.components.T
        shown = (self.mean + plain @ self.components).view_as(films)
        noise, variance = (2 * self.log_sigma).exp(), self.std.square()
        seen = torch.cat([films - 0.5, 4 * (films - shown)], dim=1)
        for size, block in zip(self.sizes, self.down, strict=True):
            seen = block(F.interpolate(seen, size=size, mode="area"))
        mean, log_variance = self.told(seen.flatten(1)).chunk(2, dim=1)
        # Of probabilistic principal components, the posterior is known; the network moves it.
        return plain * self.std / (variance + noise) + mean, (noise / (variance + noise)).log() + log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """Latent (B, K) -> films (B, channels, H, W), not clamped to [0, 1]."""
        linear = (self.mean + (latent * self.std) @ self.components).view(len(latent), *self.shape)
        size = self.sizes[-1]
        seen = self.spread(latent).view(len(latent), -1, *size)
        for size, block in zip(self.sizes[::-1], self.up, strict=True):
            drawn = F.interpolate(linear - 0.5, size=size, mode="area")
            seen = block(torch.cat([F.interpolate(seen, size=size), drawn], dim=1))
        films: Tensor = linear + 0.1 * self.out(seen)
        return films


def _sizes(sides: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of the levels, from the film's to about `SMALLEST`."""
    sizes = [sides]
    while min(sizes[-1]) > SMALLEST and len(sizes) < len(WIDTHS):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def begin(prior: EigenPrior) -> VariationalAutoencoder:
    """The autoencoder before its training: the components. Draws from torch's global generator.

    Args:
        prior: Fitted to the films that it will be trained on.
    """
    channels, *sides = prior.image_shape
    network = VariationalAutoencoder(1 if prior.is_grey else channels, (sides[0], sides[1]), len(prior.std))
    network.mean, network.components, network.std = prior.mean, prior.components, prior.std
    network.log_sigma = torch.tensor(prior.residual).log()
    return network


@dataclass(frozen=True, kw_only=True)
class Generated(Parametrisation):
    """The latent of a generator.

    Args:
        network: Trained, without gradients.
        card: What it was trained on, how, and how good it is on films of patients that it was not trained on.
    """

    network: VariationalAutoencoder = field(repr=False)
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def start(self, count: int, image_shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(count, K) from N(0, 0.1^2), near the usual film.

        Raises:
            BadSetting: the generator is for images of another shape.
        """
        self._require(image_shape)
        return 0.1 * torch.randn(count, len(self.network.std), generator=generator)

    def images(self, latent: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """D(z); may leave [0, 1].

        Raises:
            BadSetting: the generator is for images of another shape.
        """
        self._require(image_shape)
        films = self.network.to(latent.device).decode(latent)
        return films.expand(-1, image_shape[0], -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The mean latent of these images, by the encoder."""
        network = self.network.to(images.device)
        with torch.no_grad():
            films = images if network.shape[0] > 1 else images.mean(dim=1, keepdim=True)
            return network.encode(films)[0]

    def project(self, latent: Tensor) -> None:
        """Clamp to `FARTHEST` standard deviations, where a normal latent hardly ever lies."""
        latent.clamp_(-FARTHEST, FARTHEST)

    def _require(self, image_shape: tuple[int, ...]) -> None:
        channels, *sides = self.network.shape
        if channels not in (1, image_shape[0]) or sides != list(image_shape[1:]):
            msg = f"The generator is for images of height and width {tuple(sides)}, the task's have {image_shape}."
            raise BadSetting(f"{msg} Give one of that shape: `gradiograph prior train FILE --kind generator`.")


def pack_generator(
    network: VariationalAutoencoder,
    image_shape: tuple[int, ...],
    card: Mapping[str, Any],
    patients: Iterable[str],
    key: bytes,
) -> bytes:
    """The generator as arrays without pickle; see `network_file.pack_network`."""
    return pack_network(FORMAT, network, image_shape, card, patients, key)


def load_generator(path: Path, image_shape: tuple[int, ...]) -> Generated:
    """Read what `pack_generator` wrote; see `network_file.load_network`.

    Raises:
        BadInput: the file is missing, damaged or no generator, or is for images of another shape.
    """
    network, card = load_network(path, FORMAT, "generator", image_shape, _bare)
    return Generated(network=network, card=card)


def _bare(arrays: Mapping[str, NDArray[Any]]) -> VariationalAutoencoder:
    channels, height, width = (int(side) for side in arrays["image_shape"])
    components, pixels = arrays["weights.components"].shape
    with torch.device("meta"):
        return VariationalAutoencoder(1 if pixels == height * width else channels, (height, width), components)
