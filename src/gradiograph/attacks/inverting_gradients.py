"""Inverting gradients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gradiograph.attacks.matching import GradientMatching, Labels
from gradiograph.attacks.optimisers import Adam
from gradiograph.attacks.parametrisations import Pixels
from gradiograph.core.registry import register

PAPER_STEPS = 4800
PIXELS = Pixels(centre=0.5, scale=0.25, boxed=True)


@register("attack", "inverting_gradients", paper="Geiping et al. 2020, arXiv 2003.14053")
def inverting_gradients(
    *,
    steps: Annotated[int, Field(ge=1)] = PAPER_STEPS,
    learning_rate: Annotated[float, Field(gt=0)] = 0.1,
    tv: Annotated[float, Field(ge=0)] = 1e-2,
    labels: Labels = "known",
    restarts: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[str, ...] = (),
) -> GradientMatching:
    """Cosine of the whole update plus total variation, by Adam on the sign of the gradient.

    Geiping et al. 2020, equation 4; local steps are replayed as in their section 6. Pixels start from N(0, 1), are kept
    in the box, and the learning rate is divided by ten at 3/8, 5/8 and 7/8 of the steps.

    Differs from the paper: the authors search normalised images. What would be the data set's mean and standard
    deviation is 0.5 and 0.25 here, so that a step of 0.1 moves a pixel by 0.025; the total variation is that of the
    pixels in [0, 1], four times smaller. One start unless `restarts` says more; see also `GradientMatching`.

    Args:
        steps: Of Adam; the paper takes 4,800.
        learning_rate: In units of the normalised images.
        tv: Weight of the total variation. The authors' code has 1e-4 for small and 1e-1 for large images; the default
            lies between.
        labels: "known", "joint" or "inferred"; the paper takes them as known.
        restarts: Searches from starts of their own; the one with the smallest objective is returned.
        layers: Glob patterns of parameter names; only these tensors of the update are matched. Empty is all.

    >>> inverting_gradients(labels="inferred").requires
    ('knows_protocol', 'knows_num_examples')
    """
    return GradientMatching(
        name="inverting_gradients",
        likelihood="cosine",
        parametrisation=PIXELS,
        tv=tv,
        optimiser=Adam(learning_rate=learning_rate, schedule="step", signed=True),
        steps=steps,
        paper_steps=PAPER_STEPS,
        labels=labels,
        restarts=restarts,
        layers=layers,
    )
