"""What the defences of differential privacy share: noise over a clip, given as such or to be found for a budget."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from pydantic import Field

from gradiograph.core.defence import Defence
from gradiograph.core.errors import BadSetting


@dataclass(frozen=True, kw_only=True)
class Calibrated(Defence, ABC):
    """A clip, and noise by its multiplier or by the budget that an audit finds it for."""

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
    def budget(self) -> tuple[float, float] | None:
        """As set, where no noise is."""
        if self.noise_multiplier is not None or self.epsilon is None or self.delta is None:
            return None
        return self.epsilon, self.delta

    def with_noise(self, noise_multiplier: float) -> Self:
        """With this noise; what is claimed stays."""
        return replace(self, noise_multiplier=noise_multiplier)

    @property
    def noise(self) -> float:
        """The noise multiplier.

        Raises:
            BadSetting: it was not found yet for the budget.
        """
        if self.noise_multiplier is None:
            msg = (
                f"defence '{self.name}' with epsilon = {self.epsilon:g} has no noise yet: it follows from the rounds, "
                "the steps and the sampling, which an audit knows. Give noise_multiplier."
            )
            raise BadSetting(msg)
        return self.noise_multiplier
