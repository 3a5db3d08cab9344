"""Deep leakage from gradients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.attacks.parametrisations import Pixels
from gradiograph.core.registry import register

PAPER_STEPS = 300


@register("attack", "dlg", paper="Zhu et al. 2019, arXiv 1906.08935")
def dlg(
    *,
    steps: Annotated[int, Field(ge=1)] = PAPER_STEPS,
    learning_rate: Annotated[float, Field(gt=0)] = 1.0,
    tv: Annotated[float, Field(ge=0)] = 0.0,
    restarts: Annotated[int, Field(ge=1)] = 1,
) -> GradientMatching:
    """Squared error of the gradient by L-BFGS over pixels and labels together.

    Zhu et al. 2019, algorithm 1: pixels and label logits start from N(0, 1). L-BFGS without line search often leaves
    the basin on networks that are not smooth: run several seeds.

    Differs from the paper: labels that the threat model grants are used; local steps are replayed; see also
    `GradientMatching` and `likelihoods.squared_error`.

    Args:
        steps: Of L-BFGS, 20 iterations each; the paper takes 300.
        learning_rate: Length of a step along its direction.
        tv: Weight of the total variation; the paper has none.
        restarts: Searches from starts of their own; the one with the smallest objective is returned.

    >>> dlg().requires, dlg().labels
    (('knows_protocol', 'knows_num_examples'), 'joint')
    """
    return GradientMatching(
        name="dlg",
        likelihood="l2",
        parametrisation=Pixels(),
        tv=tv,
        optimiser=LBFGS(learning_rate=learning_rate),
        steps=steps,
        paper_steps=PAPER_STEPS,
        labels="joint",
        labels_if_granted=True,
        restarts=restarts,
    )
