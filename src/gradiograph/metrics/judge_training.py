"""How a judge is trained: to know a film and its patient again, and its finding, through whatever blurs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate

from gradiograph.metrics.judge import SIDE, JudgeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

FILMS = 64
"""Of a step, each in two views."""
LEARNING_RATE = 2e-3
TEMPERATURE = 0.1
STRONGEST_BLUR = 10
"""Fewest pixels a side that a view is shrunk to before it is enlarged again."""
NOISE = 0.12


def fit_judge(
    films: Tensor,
    labels: Tensor,
    patients: Tensor,
    classes: int,
    steps: int,
    generator: torch.Generator,
    progress: Callable[[float], None],
) -> JudgeNetwork:
    """Train on pairs of views: of one film, and of two films of one patient where there are.

    The embedding by supervised contrast (Khosla et al. 2020, arXiv 2004.11362, L_out) over patients, as matchers of
    radiographs are (Packhaeuser et al. 2022, arXiv 2103.08562, train on pairs); the finding by its cross entropy.

    Args:
        films: (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        patients: int64 (N,), equal for films of one patient.
        classes: K.
        steps: Of AdamW, with a cosine schedule.
        generator: Draws films, views and the first weights.
        progress: Told the share that is done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        network = JudgeNetwork(classes)
    small = interpolate(films.float().mean(dim=1, keepdim=True), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        chosen = torch.randint(len(small), (FILMS,), generator=generator)
        views = torch.cat([view(small[chosen], generator) for _ in range(2)])
        whose, logits = network(views)
        loss = contrast(whose, patients[chosen].repeat(2)) + cross_entropy(logits, labels[chosen].repeat(2))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        progress((step + 1) / steps)
    return network.eval().requires_grad_(requires_grad=False)


def contrast(embeddings: Tensor, owners: Tensor) -> Tensor:
    """Supervised contrastive loss of embeddings (B, D) of length 1, whose owners (B,) have at least two each."""
    alike = embeddings @ embeddings.T / TEMPERATURE
    own = torch.eye(len(alike), dtype=torch.bool)
    log_share = alike - alike.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True)
    together = (owners[:, None] == owners) & ~own
    loss: Tensor = -((log_share * together).sum(dim=1) / together.sum(dim=1)).mean()
    return loss


def view(films: Tensor, generator: torch.Generator) -> Tensor:
    """Films (B, 1, S, S) as another exposure, and as a reconstruction might show them: moved, blurred, noisy."""
    count = len(films)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    angle, scale = draw(-0.09, 0.09).flatten(), draw(0.88, 1.1).flatten()
    turn = torch.stack([scale * angle.cos(), -scale * angle.sin(), scale * angle.sin(), scale * angle.cos()], dim=1)
    shift = torch.cat([draw(-0.12, 0.12).flatten(1), draw(-0.12, 0.12).flatten(1)], dim=1)
    grid = affine_grid(torch.cat([turn.view(-1, 2, 2), shift[..., None]], dim=2), [*films.shape], align_corners=False)
    moved = grid_sample(films, grid, padding_mode="border", align_corners=False)
    exposed = (moved.clamp_min(1e-3) ** draw(0.7, 1.4)) * draw(0.75, 1.25) + draw(-0.15, 0.15)
    # One strength of blur for half of the films: they are shrunk and enlarged together.
    sharpest = torch.rand(count, generator=generator) < 0.4
    side = int(torch.randint(STRONGEST_BLUR, SIDE + 1, (1,), generator=generator))
    shrunk = interpolate(exposed, size=(side, side), mode="bilinear", antialias=True)
    blurred = interpolate(shrunk, size=films.shape[-2:], mode="bicubic", align_corners=False)
    kept = torch.where(sharpest[:, None, None, None], exposed, blurred)
    return kept + draw(0.0, NOISE) * torch.randn(kept.shape, generator=generator)
