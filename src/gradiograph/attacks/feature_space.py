"""Where a layer's inputs can lie at all: the span of the features of films drawn from a public prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.feature_inversion import layer_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.attacks.eigen import EigenPrior

FILMS = 384
BLOCK = 16
SMALLEST = 1e-9
"""Smallest squared singular value of a direction that is kept, as a share of the largest."""


def feature_space(layer: SeenLayer, prior: EigenPrior, generator: torch.Generator, films: int = FILMS) -> Tensor:
    """An orthonormal basis (K, D) of the features of films that the prior draws, in the middle of the client's path.

    Noise of a gradient is spread over D directions, features lie near K of them: of the noise only K / D is left.

    Args:
        layer: The layer; D inputs.
        prior: Of the films.
        generator: Draws them.
        films: How many; K at most.
    """
    features = layer_inputs(layer.task, layer.state, layer.weight)
    latents = torch.randn(films, len(prior.std), generator=generator)
    with torch.no_grad():
        drawn = torch.cat([features(prior.images(latent).clamp(0, 1))[0] for latent in torch.split(latents, BLOCK)])
        values, vectors = torch.linalg.eigh((drawn @ drawn.T).double())
        kept = values > SMALLEST * values[-1]
        basis: Tensor = (vectors[:, kept] / values[kept].sqrt()).T.to(drawn) @ drawn
    return basis
