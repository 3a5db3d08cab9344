"""What a client can see of a model that was prepared to make its update leak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from gradiograph.attacks.dense_layer import bias_of, first_dense_layer
from gradiograph.attacks.feature_inversion import inputs_of, layer_inputs
from gradiograph.core.errors import BadSetting
from gradiograph.tasks.weights import load_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gradiograph.audit.plan import Plan
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

DIRECTIONS = 4
PARALLEL = 0.95
"""Share of a layer's rows, as unit vectors, in `DIRECTIONS` directions; of fresh and trained networks at most 0.6."""
RARE, RARE_UNITS = 0.15, 0.3
"""A unit is rare that fires for at most this share of films; that many of those that fire are too many. Of fresh
networks up to 0.2, of planted ones 0.46 to 0.99."""
FAR = 0.5
"""Largest change of a tensor from one round to the next, as a share of its norm."""
FEW_ROWS = 16
BLOCK = 32


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at.

    Attributes:
        where: The tensor's name, or what stands for all.
        what: The measure in words.
        value: What was measured.
        limit: What is suspicious above.
    """

    where: str
    what: str
    value: float
    limit: float

    @property
    def is_suspicious(self) -> bool:
        """Whether the value is above its limit."""
        return self.value > self.limit


def inspect_weights(made: Plan, weights: Path, before: Path | None = None) -> list[Sign]:
    """Look at a model that a server sent, before training on it, with the client's own films.

    Three signs: tensors that the agreed model does not have, or lacks; a layer whose rows point in a few directions
    only, as a planted layer's do (`imprint`, `fishing`); a first dense layer most of whose units fire for a few of the
    client's films only (`trap_weights`), which no look at the weights alone shows. With the model of the round before:
    how far each tensor moved.

    None of them is a proof: a server that spreads its change over many rounds, or plants weights that fire for other
    films than these, is not seen.

    Args:
        made: The client's audit: its model (the first task), and as victims its own films.
        weights: The state dict that was received.
        before: That of the round before.

    Raises:
        BadInput: a file cannot be read.
    """
    task, state = made.task(made.spec.task[0], made.spec.seeds[0]), load_state(weights)
    agreed = task.state()
    known = {name for name in agreed if name in state and state[name].shape == agreed[name].shape}
    signs = [Sign("all tensors", "that the agreed model does not have, or lacks", len(agreed | state) - len(known), 0)]
    signs += [
        Sign(name, f"share of the rows in {DIRECTIONS} directions", parallel_share(tensor), PARALLEL)
        for name, tensor in state.items()
        if tensor.ndim > 1 and tensor.is_floating_point() and len(tensor) >= FEW_ROWS
    ]
    films = torch.cat([torch.from_numpy(batch.read()) for batch in made.films.victims])
    if len(known) == len(agreed):
        signs += rare_units(task, {name: state[name] for name in agreed}, films)
    if before is not None:
        last = load_state(before)
        signs += [
            Sign(name, "change since the last round, of its norm", _change(last[name], tensor), FAR)
            for name, tensor in state.items()
            if name in last and last[name].shape == tensor.shape and name in task.trainable
        ]
    return signs


def parallel_share(weight: Tensor) -> float:
    """How much of the rows, as unit vectors, lies in the `DIRECTIONS` strongest directions, in [0, 1].

    >>> parallel_share(torch.ones(20, 8))
    1.0
    """
    units = normalize(weight.flatten(1).double(), dim=1)
    values = torch.linalg.eigvalsh(units @ units.T)
    return round(float(values[-DIRECTIONS:].sum() / values.sum().clamp_min(1e-30)), 6)


def rare_units(task: Task, state: Tensors, films: Tensor) -> list[Sign]:
    """Of the first dense layer's units that fire at all, the share that fires for few of the films (N, C, H, W).

    Empty where no dense layer is trained that sees one vector for each film.
    """
    try:
        weight = first_dense_layer(task)
    except BadSetting:
        return []
    seen = inputs_of(layer_inputs(task, state, weight), torch.split(films, BLOCK))
    bias = state.get(bias_of(weight), torch.zeros(()))
    fires = (seen @ state[weight].T + bias > 0).double().mean(dim=0)
    rare = float(((fires > 0) & (fires <= RARE)).sum() / (fires > 0).sum().clamp_min(1))
    what = f"share of the units that fire for at most {100 * RARE:.0f} % of your films"
    return [Sign(weight, what, rare, RARE_UNITS)]


def _change(before: Tensor, after: Tensor) -> float:
    return float((after - before).norm() / before.norm().clamp_min(torch.finfo(torch.float32).tiny))
