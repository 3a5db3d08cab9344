"""Local differential privacy of one update: the client clips it and adds all of the noise itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradiograph.core.registry import register
from gradiograph.defences.private_update import PrivateUpdate


@register("defence", "local_dp", paper="Balle and Wang 2018, arXiv 1805.06530")
@dataclass(frozen=True, kw_only=True)
class LocalDP(PrivateUpdate):
    """Clip the update to C and add Gaussian noise of standard deviation noise_multiplier x 2 C, on the client.

    Whatever data the client has, its clipped updates differ by at most 2 C: nobody needs to be trusted, and the noise
    is as large as that takes. Its budget composes over the rounds and is found exactly, not by the classical formula.

    Args:
        clip_norm: C > 0, over all parameters.
        noise_multiplier: sigma, the noise over the sensitivity 2 C. Without it, give `epsilon` and `delta`.
        epsilon: The budget of all rounds together.
        delta: Of the budget.

    Raises:
        BadSetting: no strength, or a budget without its delta.
    """

    name: ClassVar[str] = "local_dp"

    @property
    def client_std(self) -> float:
        """noise_multiplier x 2 C."""
        return self.noise * 2 * self.clip_norm

    @property
    def guarantee(self) -> str | None:
        """Against everybody."""
        return self._promise("everybody, the server too")
