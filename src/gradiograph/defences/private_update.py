"""What the defences share that clip a client's whole update and add Gaussian noise to it or to the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gradiograph.core.defence import Chain, Defence, Encoding
from gradiograph.core.errors import BadSetting
from gradiograph.core.privacy import PrivacyEvent, default_delta
from gradiograph.defences.clip import Clip
from gradiograph.defences.gaussian_noise import GaussianNoise

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gradiograph.core.privacy import Exposure
    from gradiograph.core.tensors import Belief, Tensors


@dataclass(frozen=True, kw_only=True)
class PrivateUpdate(Defence, ABC):
    """A clip of the update, noise on the client or not, and one Gaussian mechanism a round whose unit is the client."""

    name: ClassVar[str]
    """In audit files, for messages."""

    clip_norm: Annotated[float, Field(gt=0)]
    noise_multiplier: Annotated[float, Field(ge=0)] | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        if (self.epsilon is None) != (self.delta is None):
            missing = "delta" if self.delta is None else "epsilon"
            msg = f"defence '{self.name}' needs epsilon and delta together; add {missing}."
            raise BadSetting(msg)
        if self.noise_multiplier is None and self.epsilon is None:
            msg = f"defence '{self.name}' was given no strength; give noise_multiplier, or epsilon and delta."
            raise BadSetting(msg)

    @property
    @abstractmethod
    def client_std(self) -> float:
        """The noise that the client adds itself."""

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The clipped update, with the client's noise."""
        return self._channel.on_update(tensors, generator)

    def expect(self, belief: Belief) -> Belief:
        """As of `clip` and `gaussian_noise`."""
        return self._channel.expect(belief)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """As of `clip` and `gaussian_noise`."""
        return self._channel.log_likelihood(seen, belief)

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """Dense with noise, else unchanged."""
        return self._channel.encode(sent, encoding)

    def privacy(self, exposure: Exposure) -> PrivacyEvent | None:
        """One Gaussian mechanism a round, for all data of the client; that clients are drawn amplifies nothing here."""
        if not self.noise_multiplier:
            return None
        return PrivacyEvent(
            site=exposure.site,
            unit="client",
            units=1,
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            rounds=exposure.rounds,
            delta=default_delta(exposure.patients) if self.delta is None else self.delta,
            claimed=self.epsilon,
        )

    @property
    def budget(self) -> tuple[float, float] | None:
        """As set, where no noise is."""
        if self.noise_multiplier is not None or self.epsilon is None or self.delta is None:
            return None
        return self.epsilon, self.delta

    def with_noise(self, noise_multiplier: float) -> Defence:
        """With this noise; what is claimed stays."""
        return replace(self, noise_multiplier=noise_multiplier)

    def _promise(self, to_whom: str) -> str | None:
        """The guarantee against these; None without noise."""
        if self.noise_multiplier == 0:
            return None
        budget = f"({self.epsilon:g}, {self.delta:g})-differential" if self.epsilon is not None else "Differential"
        return f"{budget} privacy of all data of a client, against {to_whom}."

    @property
    def noise(self) -> float:
        """The noise multiplier.

        Raises:
            BadSetting: it was not found yet for the budget.
        """
        if self.noise_multiplier is None:
            msg = (
                f"defence '{self.name}' with epsilon = {self.epsilon:g} has no noise yet: it follows from the rounds, "
                "which an audit knows. Give noise_multiplier."
            )
            raise BadSetting(msg)
        return self.noise_multiplier

    @property
    def _channel(self) -> Chain:
        std = self.client_std
        return Chain(stages=(Clip(norm=self.clip_norm), *((GaussianNoise(std=std),) if std else ())))
