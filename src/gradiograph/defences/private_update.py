"""What the defences share that clip a client's whole update and add Gaussian noise to it or to the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiograph.core.defence import Chain, Encoding
from gradiograph.core.privacy import PrivacyEvent, default_delta
from gradiograph.defences.calibrated import Calibrated
from gradiograph.defences.clip import Clip
from gradiograph.defences.gaussian_noise import GaussianNoise

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gradiograph.core.privacy import Exposure
    from gradiograph.core.tensors import Belief, Tensors


@dataclass(frozen=True, kw_only=True)
class PrivateUpdate(Calibrated, ABC):
    """A clip of the update, noise on the client or not, and one Gaussian mechanism a round whose unit is the client."""

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

    def _promise(self, to_whom: str) -> str | None:
        """The guarantee against these; None without noise."""
        if self.noise_multiplier == 0:
            return None
        budget = f"({self.epsilon:g}, {self.delta:g})-differential" if self.epsilon is not None else "Differential"
        return f"{budget} privacy of all data of a client, against {to_whom}."

    @property
    def _channel(self) -> Chain:
        std = self.client_std
        return Chain(stages=(Clip(norm=self.clip_norm), *((GaussianNoise(std=std),) if std else ())))
