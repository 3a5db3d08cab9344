"""Distributed noise: every client adds its share, and only the sum, under secure aggregation, has all of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, ClassVar

from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.defences.private_update import PrivateUpdate


@register("defence", "distributed_noise", paper="Kairouz, Liu, Steinke 2021, arXiv 2102.06387")
@dataclass(frozen=True, kw_only=True)
class DistributedNoise(PrivateUpdate):
    """Clip the update to C and add a share of the noise, noise_multiplier x C / sqrt(clients), on each client.

    The shares of all clients add up to noise_multiplier x C on their sum, so nobody needs to add noise centrally. One
    client's update by itself has too little: the audit takes this only where the sum alone is observed.

    Args:
        clip_norm: C > 0, over all parameters.
        noise_multiplier: sigma, the noise on the sum over C. Without it, give `epsilon` and `delta`.
        epsilon: The budget of all rounds together.
        delta: Of the budget.
        clients: How many add their share; all of them must be in every sum, with equal weights.

    Raises:
        BadSetting: no strength, or a budget without its delta.

    Differs from the paper: continuous Gaussian noise on real numbers, not discrete noise within modular arithmetic. A
    client that drops out, or that knows its own share, leaves less noise for the others: that is not accounted.
    """

    name: ClassVar[str] = "distributed_noise"
    weighs_clients: ClassVar[bool] = True

    clients: Annotated[int, Field(ge=2)]

    @property
    def client_std(self) -> float:
        """This client's share: noise_multiplier x C / sqrt(clients)."""
        return self.noise * self.clip_norm / sqrt(self.clients)

    @property
    def guarantee(self) -> str | None:
        """Against those who see the sum only."""
        return self._promise("those who see only the sum over all clients")

    @property
    def sum_of(self) -> int | None:
        """The clients whose shares make up the noise."""
        return self.clients
