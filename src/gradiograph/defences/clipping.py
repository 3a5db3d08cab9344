"""How gradients of examples are clipped: from their norms to what each is multiplied with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Clipping = Literal["flat", "per_layer", "automatic"]

STABILITY = 0.01
"""gamma of automatic clipping, in units of C."""


def clip_weights(clipping: Clipping, squared_norms: Mapping[str, Tensor], bound: float) -> dict[str, Tensor]:
    """What each unit's gradient is multiplied with, so that its norm over all parameters is at most the bound.

    Args:
        clipping: See `DPSGD`.
        squared_norms: (U,) by parameter name.
        bound: C > 0.

    Returns:
        (U,) by parameter name.

    >>> clip_weights("flat", {"w": torch.tensor([9.0, 0.25]), "b": torch.tensor([16.0, 0.0])}, 1.0)["b"]
    tensor([0.2000, 1.0000])
    """
    layers = {name: name.rpartition(".")[0] if clipping == "per_layer" else "" for name in squared_norms}
    count = len(set(layers.values()))
    totals: dict[str, Tensor] = {}
    for name, layer in layers.items():
        totals[layer] = totals[layer] + squared_norms[name] if layer in totals else squared_norms[name]
    own = bound / count**0.5
    weights = {layer: _weight(clipping, total, own) for layer, total in totals.items()}
    return {name: weights[layer] for name, layer in layers.items()}


def _weight(clipping: Clipping, total: Tensor, bound: float) -> Tensor:
    # The slope of the square root is infinite at zero; a unit may have no gradient at all.
    norm = total.clamp_min(torch.finfo(total.dtype).tiny).sqrt()
    if clipping == "automatic":
        return bound / (norm + STABILITY * bound)
    return (bound / norm).clamp_max(1.0)
