"""How the search moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

Closure = Callable[[], "Tensor"]
"""Sets the variables' gradients and returns the objective at them."""
Schedule = Literal["constant", "cosine", "step"]
MILESTONES = (3 / 8, 5 / 8, 7 / 8)
COSINE_FLOOR = 0.1


@dataclass(frozen=True, kw_only=True)
class Optimiser(ABC):
    """Settings of an optimiser, from which each search makes its own."""

    learning_rate: float

    @abstractmethod
    def start(self, variables: list[Tensor], steps: int) -> Callable[[Closure, int], float]:
        """A function of a closure and the number of this step that moves the variables once.

        It returns the objective before the move.
        """


@dataclass(frozen=True, kw_only=True)
class Adam(Optimiser):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980).

    Args:
        learning_rate: Of the first step.
        schedule: "cosine" falls to a tenth along half a cosine; "step" divides by ten at 3/8, 5/8 and 7/8 of the steps.
        signed: Give Adam the sign of the images' gradient in its place (Geiping et al. 2020, arXiv 2003.14053).
    """

    schedule: Schedule = "constant"
    signed: bool = False

    def start(self, variables: list[Tensor], steps: int) -> Callable[[Closure, int], float]:
        """See `Optimiser.start`; the first variable is the images' latent."""
        adam = torch.optim.Adam(variables, lr=self.learning_rate)

        def step(closure: Closure, count: int) -> float:
            adam.param_groups[0]["lr"] = self.learning_rate * decay(self.schedule, count / steps)
            value = float(closure())
            if self.signed and variables[0].grad is not None:
                variables[0].grad.sign_()
            adam.step()
            return value

        return step


@dataclass(frozen=True, kw_only=True)
class LBFGS(Optimiser):
    """L-BFGS; without line search, as Zhu et al. 2019 use it, or with one.

    Args:
        learning_rate: Length of a step along its direction; with a line search, of the first that is tried.
        history: Pairs that approximate the curvature.
        inner_steps: Iterations in each step.
        line_search: Go along each direction to a point that fulfils Wolfe's strong conditions, and never stop early.
            On a function that jumps, as one with the slopes of rectifiers in it, no such point may exist.
    """

    history: int = 100
    inner_steps: int = 20
    line_search: bool = False

    def start(self, variables: list[Tensor], steps: int) -> Callable[[Closure, int], float]:
        """See `Optimiser.start`."""
        searching = {"line_search_fn": "strong_wolfe", "tolerance_grad": 0.0, "tolerance_change": 0.0}
        lbfgs = torch.optim.LBFGS(
            variables,
            lr=self.learning_rate,
            max_iter=self.inner_steps,
            history_size=self.history,
            **(searching if self.line_search else {}),  # type: ignore[arg-type] # of several types
        )

        def step(closure: Closure, count: int) -> float:
            return float(lbfgs.step(lambda: float(closure())))  # type: ignore[no-untyped-call] # torch has no types here

        return step


def decay(schedule: Schedule, share: float) -> float:
    """The learning rate after this share of the steps, as a share of the first.

    >>> decay("step", 0.5), decay("cosine", 0.0), decay("constant", 0.9)
    (0.1, 1.0, 1.0)
    """
    if schedule == "cosine":
        return float(COSINE_FLOOR + (1 - COSINE_FLOOR) * (1 + cos(pi * share)) / 2)
    if schedule == "step":
        return float(0.1 ** sum(share >= milestone for milestone in MILESTONES))
    return 1.0
