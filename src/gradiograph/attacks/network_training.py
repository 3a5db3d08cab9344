"""The training of a network that knows films: interrupted anywhere, it ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

SAVE = 100
"""Steps between two checkpoints."""
LONGEST = 1.0
"""Of a gradient, over all weights."""

Checkpoint = dict[str, Any]


def train_network(
    network: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    checkpoint: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    progress: Callable[[float], None],
) -> None:
    """AdamW with a cosine schedule and clipped gradients; the network ends in eval mode and without gradients.

    Args:
        network: Trained in place.
        loss: Of the next step; draws from the generator only.
        steps: How many.
        learning_rate: Of the first.
        generator: Kept in the checkpoints.
        checkpoint: Where an interrupted training of the same settings goes on.
        save: Told of a checkpoint every `SAVE` steps.
        progress: Told the share that is done.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    done = 0
    if checkpoint is not None:
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        generator.set_state(checkpoint["generator"])
        done = int(checkpoint["steps"])
    for step in range(done, steps):
        optimiser.zero_grad()
        torch.autograd.backward(loss())
        torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST)
        optimiser.step()
        schedule.step()
        if (step + 1) % SAVE == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            save({**states, "generator": generator.get_state(), "steps": step + 1})
        progress((step + 1) / steps)
    network.eval().requires_grad_(requires_grad=False)
