"""Our attack on radiographs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gradiograph.attacks.likelihoods import LikelihoodName
from gradiograph.attacks.matching import GradientMatching, Labels
from gradiograph.attacks.optimisers import Adam
from gradiograph.attacks.parametrisations import LowResolution
from gradiograph.attacks.replay import ReplayName
from gradiograph.core.registry import register


@register("attack", "latent_matching")
def latent_matching(
    *,
    steps: Annotated[int, Field(ge=1)] = 300,
    learning_rate: Annotated[float, Field(gt=0)] = 0.05,
    factor: Annotated[int, Field(ge=1)] = 4,
    tv: Annotated[float, Field(ge=0)] = 1e-4,
    likelihood: LikelihoodName = "cosine",
    replay: ReplayName = "midpoint",
    labels: Labels = "known",
    restarts: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[str, ...] = (),
) -> GradientMatching:
    """Cosine of the update over a grey low-resolution latent, the local steps replayed by one gradient.

    Made for radiographs: their channels are equal, so that one is searched, in the box [0, 1]; and one gradient at the
    middle of the round stands for all local steps for as long as its error is small beside the misfit
    (`replay.midpoint`). Which likelihood finds more depends on the model: on an untrained LeNet "cosine" found more
    than "cosine_per_layer" on validation films.

    Args:
        steps: Of Adam, whose learning rate falls to a tenth along half a cosine.
        learning_rate: Of the first step, in units of the pixels.
        factor: How much smaller the latent is than the image, along each side; upsampled bilinearly.
        tv: Weight of the total variation.
        likelihood: "l2", "cosine", "cosine_per_layer" or "channel".
        replay: "midpoint", with the exact replay as fallback, or "exact".
        labels: "known", "joint" or "inferred".
        restarts: Searches from starts of their own; the one with the smallest objective is returned.
        layers: Glob patterns of parameter names; only these tensors of the update are matched. Empty is all.

    >>> latent_matching(steps=10).replay
    'midpoint'
    """
    return GradientMatching(
        name="latent_matching",
        likelihood=likelihood,
        parametrisation=LowResolution(factor=factor, grey=True, boxed=True),
        tv=tv,
        optimiser=Adam(learning_rate=learning_rate, schedule="cosine"),
        steps=steps,
        paper_steps=None,
        labels=labels,
        restarts=restarts,
        layers=layers,
        replay=replay,
    )
