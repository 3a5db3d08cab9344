"""The interface of a defence: a channel from the clean update to what the server sees, known from both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from gradiograph.core.errors import BadSetting
from gradiograph.core.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.example_gradients import ExampleGradients, Unit
    from gradiograph.core.privacy import Exposure, PrivacyEvent
    from gradiograph.core.tensors import Belief, Tensors


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How an update lies on the wire, in fixed-length coding.

    Attributes:
        num_values: Values that are sent.
        value_bits: Bits of each value.
        index_bits: Bits that say where each value belongs; 0 where all are sent or the receiver can derive the places.
        overhead_bits: Scales, norms and seeds, in total.
        block: Values that share a scale, consecutive within a tensor; None is the whole tensor.
    """

    num_values: int
    value_bits: int = 32
    index_bits: int = 0
    overhead_bits: int = 0
    block: int | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire, rounded up."""
        return ceil((self.num_values * (self.value_bits + self.index_bits) + self.overhead_bits) / 8)


@dataclass(frozen=True, kw_only=True)
class Defence:
    """A channel u -> v on a client's update.

    A subclass is a frozen dataclass with keyword-only settings. It says how the channel acts (`on_update`), what it
    does to a belief about the update (`expect`, for a channel that others follow), how likely a seen update is
    (`log_likelihood`, for the channel that acts last), and what it puts on the wire (`encode`). One that acts on each
    example within local training has a `unit`, and says what it makes of their gradients (`on_example_gradients`) and
    of the sum of these (`on_example_sum`).
    """

    placed: ClassVar[Literal["client", "aggregator"]] = "client"
    """Where its noise is added; what is added at the aggregator does not protect from the server that adds it."""

    weighs_clients: ClassVar[bool] = False
    """Whether it says what each client counts in the mean; else a client counts by its number of examples."""

    @property
    def sum_of(self) -> int | None:
        """The clients whose sum alone may be seen for the guarantee to hold; None where it holds for each by itself."""
        return None

    def client_weight(self, num_examples: int) -> float:
        """What a client of this many examples counts in the mean, where `weighs_clients`; at most 1."""
        return 1.0

    def on_mean(self, mean: Tensors, total_weight: float, generator: torch.Generator) -> Tensors:
        """What the aggregator makes of the clients' mean, where `weighs_clients`.

        Args:
            mean: The weighted sum over `total_weight`.
            total_weight: The expected sum of the weights, fixed before the round.
            generator: The aggregator's randomness.
        """
        return mean

    @property
    def guarantee(self) -> str | None:
        """The formal privacy guarantee in words, None where there is none."""
        return None

    @property
    def unit(self) -> Unit | None:
        """Whose gradients are clipped one by one within local training; None where it acts on the update only."""
        return None

    @property
    def example_stage(self) -> Defence | None:
        """The channel that acts on examples: itself, one of its stages, or none."""
        return self if self.unit else None

    def on_example_gradients(self, gradients: ExampleGradients) -> Tensors:
        """The sum over units of what each may contribute to a local step; differentiable in the gradients."""
        raise NotImplementedError

    def on_example_sum(self, total: Tensors, expected: float, generator: torch.Generator | None) -> Tensors:
        """The gradient of a local step.

        Args:
            total: The sum over the units that were drawn, of `on_example_gradients`; zero where none was.
            expected: How many units a step has on average: the fixed denominator of the mean.
            generator: The noise's; None gives the mean over the noise, differentiable in the sum.
        """
        raise NotImplementedError

    def privacy(self, exposure: Exposure) -> PrivacyEvent | None:
        """What its use in this training costs; None where it has no formal guarantee."""
        return None

    @property
    def budget(self) -> tuple[float, float] | None:
        """The (epsilon, delta) that its noise is still to be found for; None where there is nothing to find."""
        return None

    def with_noise(self, noise_multiplier: float) -> Defence:
        """The same defence with the noise that was found for its budget."""
        return self

    def step_variance(self, expected: float) -> float:
        """The variance of the noise on each value of what `on_example_sum` returns."""
        return 0.0

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """What is sent in place of `tensors`: same names and shapes. Does not change its input."""
        raise NotImplementedError

    def expect(self, belief: Belief) -> Belief:
        """The belief about this channel's output, differentiable in the belief about its input."""
        raise NotImplementedError

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log p(seen | belief about this channel's input), up to a constant in the belief: a differentiable scalar."""
        raise NotImplementedError

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """The encoding after this channel, given the one before it and what it sent."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Chain(Defence):
    """Channels applied one after the other; an empty chain is no defence.

    The belief is pushed through all stages but the last, which scores what was seen: exact where these stages are
    deterministic, else the approximation that each stage's `expect` documents.
    """

    stages: tuple[Defence, ...] = ()

    @property
    def guarantee(self) -> str | None:
        """Those of the stages; what follows a private stage is post-processing and costs nothing."""
        return " ".join(filter(None, (stage.guarantee for stage in self.stages))) or None

    @property
    def example_stage(self) -> Defence | None:
        """The one stage that acts on examples, wherever it stands; None where there is none.

        Raises:
            BadSetting: there are two: a step's gradient is made once.
        """
        found = [stage.example_stage for stage in self.stages if stage.example_stage]
        if len(found) > 1:
            msg = "A stack can have one defence that acts on each example within local training; this one has two."
            raise BadSetting(msg)
        return found[0] if found else None

    @property
    def mean_stage(self) -> Defence | None:
        """The first stage that weighs the clients; None where none does."""
        return next((stage for stage in self.stages if stage.weighs_clients), None)

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """Apply all stages; each draws from a stream of its own."""
        seed = generator.initial_seed()
        for place, stage in enumerate(self.stages):
            own = torch.Generator().manual_seed(derive_seed(seed, place, type(stage).__name__))
            tensors = stage.on_update(tensors, own)
        return tensors

    def expect(self, belief: Belief) -> Belief:
        """The belief after all stages."""
        for stage in self.stages:
            belief = stage.expect(belief)
        return belief

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """The last stage's likelihood of what was seen.

        Raises:
            ValueError: the chain is empty: a clean update has no channel to score it.
        """
        if not self.stages:
            msg = "An empty chain has no likelihood; use a distance."
            raise ValueError(msg)
        return self.stages[-1].log_likelihood(seen, replace(self, stages=self.stages[:-1]).expect(belief))

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """The encoding after all stages."""
        for stage in self.stages:
            encoding = stage.encode(sent, encoding)
        return encoding
