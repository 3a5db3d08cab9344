"""DP-FedAvg: clients clip their updates, the aggregator adds the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from gradiograph.core.registry import register
from gradiograph.defences.private_update import PrivateUpdate

if TYPE_CHECKING:
    from gradiograph.core.tensors import Tensors


@register("defence", "dp_fedavg", paper="McMahan et al. 2018, arXiv 1710.06963")
@dataclass(frozen=True, kw_only=True)
class DPFedAvg(PrivateUpdate):
    """Clip each client's update to C; the aggregator adds noise of noise_multiplier x C to their weighted sum.

    Weights are min(n / weight_cap, 1), so that no client's is above 1, and the sum is divided by the expected sum of
    weights, which is fixed (McMahan et al. 2018, algorithm 1, the estimator f_f). The server sees every update before
    the noise, so an attack by the server meets a clipped update and nothing else.

    Args:
        clip_norm: C > 0, over all parameters.
        noise_multiplier: sigma, the noise on the sum over C. Without it, give `epsilon` and `delta`.
        epsilon: The budget of all rounds together.
        delta: Of the budget.
        weight_cap: Images from which on a client has the full weight; 1 gives all clients the same.

    Raises:
        BadSetting: no strength, or a budget without its delta.

    Differs from the paper: clients are drawn in a fixed number, which amplifies nothing in our account; theirs are
    drawn each by itself.
    """

    name: ClassVar[str] = "dp_fedavg"
    placed: ClassVar[Literal["client", "aggregator"]] = "aggregator"
    weighs_clients: ClassVar[bool] = True

    weight_cap: Annotated[int, Field(ge=1)] = 1

    @property
    def client_std(self) -> float:
        """None: the noise is the aggregator's."""
        return 0.0

    @property
    def guarantee(self) -> str | None:
        """Not against the server."""
        return self._promise("those who see only the models, not the server, which sees updates before the noise")

    def client_weight(self, num_examples: int) -> float:
        """min(n / weight_cap, 1)."""
        return min(num_examples / self.weight_cap, 1.0)

    def on_mean(self, mean: Tensors, total_weight: float, generator: torch.Generator) -> Tensors:
        """The mean with noise of noise_multiplier x C / total weight."""
        std = self.noise * self.clip_norm / total_weight
        return {n: t + std * torch.randn(t.shape, generator=generator).to(t) for n, t in mean.items()}
