"""Reconstruction from obfuscated gradients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gradiograph.attacks.matching import GradientMatching, Labels
from gradiograph.attacks.optimisers import Adam
from gradiograph.attacks.parametrisations import LowResolution
from gradiograph.core.registry import register

PAPER_STEPS = 100


@register("attack", "rog", paper="Yue et al. 2023, arXiv 2206.04055")
def rog(
    *,
    steps: Annotated[int, Field(ge=1)] = PAPER_STEPS,
    learning_rate: Annotated[float, Field(gt=0)] = 0.05,
    factor: Annotated[int, Field(ge=1)] = 4,
    tv: Annotated[float, Field(ge=0)] = 0.0,
    labels: Labels = "known",
    restarts: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[str, ...] = (),
) -> GradientMatching:
    """Squared error of the update over a low-resolution latent, the local steps replayed, by Adam.

    Yue et al. 2023, section 4. As in the authors' code the latent starts from U(0, 1), is upsampled bicubically, and
    the learning rate falls to a tenth along half a cosine.

    Differs from the paper: its learned refinement of the upsampled image is an attack around this one, `restored`; see
    also `GradientMatching` and `likelihoods.squared_error`.

    Args:
        steps: Of Adam; the paper takes 100.
        learning_rate: Of the first step, in units of the pixels.
        factor: How much smaller the latent is than the image, along each side.
        tv: Weight of the total variation; the paper has none.
        labels: "known", "joint" or "inferred"; the paper takes them as known.
        restarts: Searches from starts of their own; the one with the smallest objective is returned.
        layers: Glob patterns of parameter names; only these tensors of the update are matched. Empty is all.

    >>> rog().requires
    ('knows_protocol', 'knows_num_examples', 'knows_labels')
    """
    return GradientMatching(
        name="rog",
        likelihood="l2",
        parametrisation=LowResolution(factor=factor, interpolation="bicubic"),
        tv=tv,
        optimiser=Adam(learning_rate=learning_rate, schedule="cosine"),
        steps=steps,
        paper_steps=PAPER_STEPS,
        labels=labels,
        restarts=restarts,
        layers=layers,
    )
