"""Improved deep leakage from gradients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.attacks.parametrisations import Pixels
from gradiograph.core.registry import register

PAPER_STEPS = 300


@register("attack", "idlg", paper="Zhao et al. 2020, arXiv 2001.02610")
def idlg(
    *,
    steps: Annotated[int, Field(ge=1)] = PAPER_STEPS,
    learning_rate: Annotated[float, Field(gt=0)] = 1.0,
    tv: Annotated[float, Field(ge=0)] = 0.0,
    restarts: Annotated[int, Field(ge=1)] = 1,
) -> GradientMatching:
    """DLG with the label read from the last layer's gradient.

    Zhao et al. 2020, algorithm 1: the label first, then only the pixels are searched.

    Differs from the paper, which treats one image: for more, the classes are counted in the style of Wainakh et al.
    2021, arXiv 2105.09369; see `label_inference.infer_labels`. Labels that the threat model grants are used. Otherwise
    as `dlg`.

    Args:
        steps: Of L-BFGS, 20 iterations each; the authors take 300.
        learning_rate: Length of a step along its direction.
        tv: Weight of the total variation; the paper has none.
        restarts: Searches from starts of their own; the one with the smallest objective is returned.

    >>> idlg(steps=10).labels
    'inferred'
    """
    return GradientMatching(
        name="idlg",
        likelihood="l2",
        parametrisation=Pixels(),
        tv=tv,
        optimiser=LBFGS(learning_rate=learning_rate),
        steps=steps,
        paper_steps=PAPER_STEPS,
        labels="inferred",
        labels_if_granted=True,
        restarts=restarts,
    )
