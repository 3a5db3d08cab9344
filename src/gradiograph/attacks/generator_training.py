"""How a generator is trained: by the evidence lower bound, on films moved and lit a little differently each time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log, pi
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import affine_grid, grid_sample

from gradiograph.attacks.generator import VariationalAutoencoder, begin
from gradiograph.attacks.network_training import Checkpoint, train_network

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.eigen import EigenPrior

FILMS = 16
"""Of a step."""
LEARNING_RATE = 1e-3
SHIFT, TURN, SIZE, LIGHT = 0.06, 0.05, 0.06, 0.08
"""How far films are moved (of half their side), turned (radians), enlarged and lit differently, at most."""
BLOCK = 64
ROUNDS = 3
"""Of calibration: where the posterior's mean lies depends on the noise a little."""


def fit_generator(
    films: Tensor,
    prior: EigenPrior,
    steps: int,
    generator: torch.Generator,
    checkpoint: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    progress: Callable[[float], None],
) -> VariationalAutoencoder:
    """Train the autoencoder that begins at these components; see `network_training.train_network`.

    The decoder's noise is the one that explains the step's films best (Rybkin et al. 2021, arXiv 2006.13202), followed
    slowly.

    Args:
        films: (N, C, H, W) in [0, 1], public.
        prior: Their mean and components.
        steps: Of the training.
        generator: Draws films, how they are moved, latents and the first weights.
        checkpoint: Where an interrupted training of the same settings goes on.
        save: Told of checkpoints.
        progress: Told the share that is done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        network = begin(prior)
    planes = films.mean(dim=1, keepdim=True) if prior.is_grey else films
    loss = partial(_loss, network, planes, generator)
    train_network(network, loss, steps, LEARNING_RATE, generator, checkpoint, save, progress)
    return network


def bound(network: VariationalAutoencoder, films: Tensor) -> float:
    """Nats per pixel that the evidence lower bound says at the posterior's mean, over films (N, channels, H, W).

    The noise of the latent is left out, so that the value is not random: it is a little above the bound itself.
    """
    total = 0.0
    with torch.no_grad():
        for block in torch.split(films, BLOCK):
            mean, log_variance = network.encode(block)
            total -= float(_surprise(network, block, mean, mean, log_variance).sum())
    return total / films.numel()


def calibrate(network: VariationalAutoencoder, films: Tensor) -> VariationalAutoencoder:
    """Give the decoder the noise that explains these films best, in place, and return the network.

    Args:
        network: Trained on other films, to which it is nearer.
        films: (N, channels, H, W).
    """
    for _ in range(ROUNDS):
        with torch.no_grad():
            blocks = torch.split(films, BLOCK)
            errors = [(block - network.decode(network.encode(block)[0])).square().sum() for block in blocks]
            network.log_sigma = 0.5 * (torch.stack(errors).sum() / films.numel()).log()
    return network


def moved(films: Tensor, generator: torch.Generator) -> Tensor:
    """Films (B, C, H, W), each shifted, turned, enlarged and lit a little, in [0, 1]."""

    def draw(most: float) -> Tensor:
        return most * (2 * torch.rand(len(films), generator=generator) - 1)

    turn, size = draw(TURN), 1 + draw(SIZE)
    rows = torch.stack([size * turn.cos(), -turn.sin(), draw(SHIFT), turn.sin(), size * turn.cos(), draw(SHIFT)], dim=1)
    grid = affine_grid(rows.view(-1, 2, 3), list(films.shape), align_corners=False)
    placed = grid_sample(films, grid, padding_mode="border", align_corners=False)
    gain, level = (1 + draw(LIGHT)).view(-1, 1, 1, 1), draw(LIGHT / 2).view(-1, 1, 1, 1)
    return (gain * (placed - 0.5) + 0.5 + level).clamp(0, 1)


def _loss(network: VariationalAutoencoder, films: Tensor, generator: torch.Generator) -> Tensor:
    some = moved(films[torch.randint(len(films), (FILMS,), generator=generator)], generator)
    mean, log_variance = network.encode(some)
    latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
    error = (some - network.decode(latent)).square().mean()
    # At the noise that fits best, its square is the mean squared error.
    network.log_sigma.lerp_(0.5 * error.detach().log(), 0.05)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / some.numel()
    loss: Tensor = 0.5 * error.log() + divergence
    return loss


def _surprise(
    network: VariationalAutoencoder, films: Tensor, latent: Tensor, mean: Tensor, log_variance: Tensor
) -> Tensor:
    """Minus the bound (B,) in nats, at this latent."""
    sigma = network.log_sigma
    errors = (films - network.decode(latent)).square().flatten(1).sum(dim=1) / (2 * (2 * sigma).exp())
    noise = films[0].numel() * (sigma + 0.5 * log(2 * pi))
    return errors + noise + 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
