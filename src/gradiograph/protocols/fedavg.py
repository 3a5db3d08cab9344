"""FedAvg: the client trains for some steps and sends the change of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradiograph.core.registry import register
from gradiograph.protocols.local_training import LocalTraining


@register("protocol", "fedavg", paper="McMahan et al. 2017, arXiv 1602.05629")
@dataclass(frozen=True, kw_only=True)
class FedAvg(LocalTraining):
    """Local training, after which weights after minus weights before are sent (McMahan et al. 2017, algorithm 1).

    Args:
        local_steps: Optimiser steps in the round. Give this or `local_epochs`.
        local_epochs: Passes over the client's images in the round.
        learning_rate: Of the local optimiser.
        batch_size: Images in a mini-batch; a client with fewer takes all of them in every step, and so does None.
        optimiser: "sgd" or "adamw"; its memory starts empty in every round.
        momentum: Heavy-ball momentum of "sgd".
        weight_decay: L2 for "sgd", decoupled for "adamw".
        augmentation: What the client draws anew in every step: "flip", "shift", "rotate".
    """

    name: ClassVar[str] = "fedavg"
