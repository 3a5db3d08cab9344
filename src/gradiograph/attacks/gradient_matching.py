"""The attack of which every part is a setting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gradiograph.attacks.likelihoods import LikelihoodName
from gradiograph.attacks.matching import GradientMatching, Labels
from gradiograph.attacks.optimisers import LBFGS, Adam, Optimiser, Schedule
from gradiograph.attacks.parametrisations import LowResolution, Parametrisation, Pixels
from gradiograph.attacks.replay import ReplayName
from gradiograph.core.registry import register


@register("attack", "gradient_matching")
def gradient_matching(
    *,
    likelihood: LikelihoodName = "channel",
    parametrisation: Literal["pixels", "low_resolution"] = "low_resolution",
    factor: Annotated[int, Field(ge=1)] = 4,
    grey: bool = False,
    tv: Annotated[float, Field(ge=0)] = 0.0,
    optimiser: Literal["adam", "lbfgs"] = "adam",
    learning_rate: Annotated[float, Field(gt=0)] = 0.05,
    schedule: Schedule = "cosine",
    signed: bool = False,
    steps: Annotated[int, Field(ge=1)] = 300,
    replay: ReplayName = "exact",
    labels: Labels = "known",
    restarts: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[str, ...] = (),
) -> GradientMatching:
    """A search of your own: likelihood, parametrisation, prior and optimiser are settings.

    By default an attacker who knows the defence and uses its likelihood (Kerckhoffs).

    Args:
        likelihood: "l2", "cosine", "cosine_per_layer", or "channel": the defence's own, "l2" where there is no defence.
        parametrisation: "pixels" (from 0.5 + 0.25 N(0, 1)) or "low_resolution" (from U(0, 1)); both
            are kept in [0, 1].
        factor: Of "low_resolution": how much smaller the latent is than the image, along each side.
        grey: Of "low_resolution": one channel, repeated to all.
        tv: Weight of the total variation.
        optimiser: "adam" or "lbfgs" (history 100, 20 iterations a step).
        learning_rate: Of the first step, in units of the latent; a latent of "pixels" is four times the pixel's value.
        schedule: Of "adam": "constant", "cosine" or "step".
        signed: Of "adam": only the sign of the gradient counts.
        steps: Of the optimiser.
        replay: "exact" or "midpoint".
        labels: "known", "joint" or "inferred".
        restarts: Searches from starts of their own; the one with the smallest objective is returned.
        layers: Glob patterns of parameter names; only these tensors of the update are matched. Empty is all.

    >>> gradient_matching().requires
    ('knows_protocol', 'knows_num_examples', 'knows_labels', 'knows_defence')
    """
    images: Parametrisation = LowResolution(factor=factor, grey=grey, boxed=True)
    if parametrisation == "pixels":
        images = Pixels(centre=0.5, scale=0.25, boxed=True)
    moves: Optimiser = Adam(learning_rate=learning_rate, schedule=schedule, signed=signed)
    if optimiser == "lbfgs":
        moves = LBFGS(learning_rate=learning_rate)
    return GradientMatching(
        name="gradient_matching",
        likelihood=likelihood,
        parametrisation=images,
        tv=tv,
        optimiser=moves,
        steps=steps,
        paper_steps=None,
        labels=labels,
        restarts=restarts,
        layers=layers,
        replay=replay,
    )
