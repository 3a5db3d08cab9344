"""Where a layer's inputs can lie at all: the span of the features of films drawn from a public prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.feature_inversion import inputs_of, layer_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.dense_layer import SeenLayer
    from gradiograph.attacks.eigen import EigenPrior

FILMS = 384
BLOCK = 16
SMALLEST = 1e-9
"""Smallest squared singular value of a direction that is kept, as a share of the largest."""


@dataclass(frozen=True)
class FeatureSpace:
    """A Gaussian belief about the features of a film before anything of it was seen.

    Attributes:
        basis: (K, D), orthonormal rows, the weakest direction first.
        energy: (K,), mean square of each coordinate over the films, positive.
    """

    basis: Tensor
    energy: Tensor


def feature_space(layer: SeenLayer, prior: EigenPrior, generator: torch.Generator, films: int = FILMS) -> FeatureSpace:
    """The features of films that the prior draws, in the middle of the client's path.

    Noise of a gradient is spread over D directions, features lie near K of them: of the noise only K / D is left.

    Args:
        layer: The layer; D inputs.
        prior: Of the films.
        generator: Draws them.
        films: How many; K at most.
    """
    features = layer_inputs(layer.task, layer.state, layer.weight)
    latents = torch.randn(films, len(prior.std), generator=generator)
    drawn = inputs_of(features, (prior.images(latent).clamp(0, 1) for latent in torch.split(latents, BLOCK)))
    with torch.no_grad():
        values, vectors = torch.linalg.eigh((drawn @ drawn.T).double())
        kept = values > SMALLEST * values[-1]
        basis = (vectors[:, kept] / values[kept].sqrt()).T.to(drawn) @ drawn
    return FeatureSpace(basis, (values[kept] / films).to(drawn))
