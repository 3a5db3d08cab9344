"""Low-rank adapters: what fine-tuning sends where the network itself stays as it is."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Iterator


class LowRank(nn.Module):
    """The change of a weight (out, ...) as a product of two matrices of few columns; none at first.

    Hu et al. 2021, arXiv 2106.09685, without their scale: the rank's factor is left to the learning rate.

    >>> LowRank(torch.ones(4, 3), rank=2)(torch.ones(4, 3)).sum()
    tensor(12., grad_fn=<SumBackward0>)
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        self.down = nn.Parameter(torch.empty(rank, prod(weight.shape[1:]), dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its change."""
        return weight + (self.up @ self.down).view_as(weight)


def adapt(model: nn.Module, rank: int) -> tuple[str, ...]:
    """Put an adapter beside the weight of every dense and convolutional layer but the last dense one.

    The last dense layer decides the classes that fine-tuning adds, so it trains as it is.

    Args:
        model: Changed in place: an adapted `weight` becomes `parametrizations.weight.original` in its state.
        rank: Of every adapter.

    Returns:
        Names of what trains: the adapters and the last dense layer, in the model's order.
    """
    layers = {place: layer for place, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    heads = [place for place, layer in layers.items() if isinstance(layer, nn.Linear)]
    for place, layer in layers.items():
        if place not in heads[-1:]:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return tuple(_training(model, heads[-1:]))


def _training(model: nn.Module, heads: list[str]) -> Iterator[str]:
    for name, _ in model.named_parameters():
        place, _, last = name.rpartition(".")
        if place in heads or (last in ("up", "down") and ".parametrizations." in f".{name}"):
            yield name
