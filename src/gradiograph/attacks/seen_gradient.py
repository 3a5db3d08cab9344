"""An update as one gradient in the middle of the client's path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiograph.attacks.likelihoods import seen_update

if TYPE_CHECKING:
    from gradiograph.core.attack import Observation
    from gradiograph.core.tensors import Tensors

LARGEST_STEP = 0.1
"""A tensor that the update moves by a larger share of its norm stays where it was."""


@dataclass(frozen=True, kw_only=True)
class SeenGradient:
    """The first round's update of an observation whose protocol is known.

    Attributes:
        state: All tensors by name, in the middle of the client's path, where one gradient stands for all local steps:
            see `replay.midpoint`.
        gradient: By name, the update as the mean gradient over the local steps.
        scale: The update over the mean gradient: minus the local learning rate times the local steps, 1 for a gradient.
    """

    state: Tensors
    gradient: Tensors
    scale: float

    @classmethod
    def of(cls, observation: Observation) -> SeenGradient:
        """What was seen in the first round."""
        state, update = observation.rounds[0]
        seen, steps = seen_update(observation), observation.local_steps or 1
        scale = -(observation.local_learning_rate or 1.0) * steps if update.kind == "delta" else 1.0
        share = (steps - 1) / (2 * steps)
        middle = {name: tensor.detach() for name, tensor in state.items()}
        if update.kind == "delta":
            # Signs without a scale are no step of training: there is no path to stand in the middle of.
            steps_taken = {name: share * seen[name] for name in seen}
            middle |= {n: middle[n] + t for n, t in steps_taken.items() if t.norm() <= LARGEST_STEP * middle[n].norm()}
        return cls(state=middle, gradient={name: tensor / scale for name, tensor in seen.items()}, scale=scale)
