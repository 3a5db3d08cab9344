"""How a film network is trained: to tell films behind noise, and behind what attacks leave of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss

from gradiograph.attacks.film_network import RAW, FilmNetwork
from gradiograph.attacks.network_training import Checkpoint, train_network

FILMS = 16
"""Of a step: half of them behind noise, half to be restored."""
LEARNING_RATE = 2e-3
SIGMA = (-1.2, 1.4)
"""Mean and standard deviation of the noise's logarithm, after Karras et al. 2022, section 5, with more of the strong
noise that settles a layout."""
REHEARSED = 0.5
"""Share of the films to be restored that are an attack's own outputs, where there are some."""


@dataclass(frozen=True)
class Rehearsal:
    """What the attack returned for public films, (n, C, H, W) each, in [0, 1]."""

    outputs: Tensor
    films: Tensor


def degrade(films: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Films (B, C, H, W) as attacks leave them: blurred, blended, in false colours, noisy, blocky, of another exposure.

    Args:
        films: The films.
        others: Films of other patients, the same shape: images of a batch run into one another.
        generator: Draws what happens to each.
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(films), *(shape or (1, 1, 1)), generator=generator)

    side = films.shape[-1]
    shared = torch.where(draw(0, 1) < 0.4, draw(0.0, 0.5), torch.zeros(1))
    seen = (1 - shared) * films + shared * others
    # One strength of blur for the whole batch: they are shrunk and enlarged together.
    small = max(4, int(side / float(2 ** (3.5 * torch.rand(1, generator=generator)))))
    if small < side:
        seen = interpolate(interpolate(seen, size=small, mode="area"), size=side, mode="bicubic", align_corners=False)
    rough = interpolate(
        torch.randn(*films.shape[:2], side // 8, side // 8, generator=generator), size=side, mode="bilinear"
    )
    seen = seen + draw(0.0, 0.15) * rough
    seen = draw(0.6, 1.3) * (seen - 0.5) + 0.5 + draw(-0.15, 0.15) + 0.1 * draw(-1, 1, films.shape[1], 1, 1)
    return (seen + draw(0.0, 0.25) * torch.randn(films.shape, generator=generator)).clamp(0, 1)


def fit_film_network(
    films: Tensor,
    rehearsal: Rehearsal | None,
    steps: int,
    generator: torch.Generator,
    checkpoint: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    progress: Callable[[float], None],
) -> FilmNetwork:
    """Train by the weighted squared error behind noise (Karras et al. 2022) and the absolute error of restored films.

    Args:
        films: (N, C, H, W) in [0, 1], public.
        rehearsal: The attack's own outputs on public films; None trains on degradations alone.
        steps: Of AdamW, with a cosine schedule.
        generator: Draws films, noise, degradations and the first weights.
        checkpoint: Where an interrupted training of the same settings goes on.
        save: Told of a checkpoint every `SAVE` steps.
        progress: Told the share that is done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        network = FilmNetwork(films.shape[1])
    loss = partial(_loss, network, films, rehearsal, generator)
    train_network(network, loss, steps, LEARNING_RATE, generator, checkpoint, save, progress)
    return network


def _loss(network: FilmNetwork, films: Tensor, rehearsal: Rehearsal | None, generator: torch.Generator) -> Tensor:
    half = FILMS // 2

    def some(count: int, of: int) -> Tensor:
        return torch.randint(of, (count,), generator=generator)

    clean = films[some(half, len(films))]
    sigma = (SIGMA[0] + SIGMA[1] * torch.randn(half, generator=generator)).exp().clamp(0.01, 5.0)
    noisy = clean + sigma[:, None, None, None] * torch.randn(clean.shape, generator=generator)
    guess = network(noisy, sigma, raw=False)
    weight = (1 / sigma.square() + 16)[:, None, None, None]
    behind_noise = (weight * (guess - clean.mean(dim=1, keepdim=True)).square()).mean() / 16

    own = round(REHEARSED * half) if rehearsal is not None else 0
    truth = films[some(half - own, len(films))]
    seen = degrade(truth, films[some(half - own, len(films))], generator)
    if rehearsal is not None:
        places = some(own, len(rehearsal.films))
        seen = torch.cat([seen, rehearsal.outputs[places]])
        truth = torch.cat([truth, rehearsal.films[places]])
    restored = network(seen, torch.full((half,), RAW), raw=True)
    loss: Tensor = behind_noise + 4 * l1_loss(restored, truth.mean(dim=1, keepdim=True))
    return loss
