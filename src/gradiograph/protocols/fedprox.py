"""FedProx: FedAvg whose clients are held near the weights that they were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.protocols.local_training import LocalTraining


@register("protocol", "fedprox", paper="Li et al. 2020, arXiv 1812.06127")
@dataclass(frozen=True, kw_only=True)
class FedProx(LocalTraining):
    """FedAvg with (mu / 2) ||w - w_before||^2 added to the client's loss (Li et al. 2020, equation 2).

    Args:
        mu: Strength of the proximal term, above 0; with mu = 0 it would be `fedavg`.
        local_steps: Optimiser steps in the round. Give this or `local_epochs`.
        local_epochs: Passes over the client's images in the round.
        learning_rate: Of the local optimiser.
        batch_size: Images in a mini-batch; a client with fewer takes all of them in every step, and so does None.
        optimiser: "sgd" or "adamw"; its memory starts empty in every round.
        momentum: Heavy-ball momentum of "sgd".
        weight_decay: L2 for "sgd", decoupled for "adamw".
        augmentation: What the client draws anew in every step: "flip", "shift", "rotate".

    Differs from the paper: every client does the whole of its local work; gamma-inexact solutions are not modelled.
    """

    name: ClassVar[str] = "fedprox"
    mu: Annotated[float, Field(gt=0)]

    @property
    def pull(self) -> float:
        """The gradient of the proximal term is mu (w - w_before)."""
        return self.mu
