"""DP-SGD: each example's gradient is clipped and noise is added, in every step of local training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from gradiograph.core.example_gradients import Unit
from gradiograph.core.privacy import PrivacyEvent, default_delta
from gradiograph.core.registry import register
from gradiograph.defences.calibrated import Calibrated
from gradiograph.defences.clipping import Clipping, clip_weights
from gradiograph.defences.exact import log_exact, tolerances, variances

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.example_gradients import ExampleGradients
    from gradiograph.core.privacy import Exposure
    from gradiograph.core.tensors import Belief, Tensors


@register("defence", "dp_sgd", paper="Abadi et al. 2016, arXiv 1607.00133")
@dataclass(frozen=True, kw_only=True)
class DPSGD(Calibrated):
    """Clip each example's gradient and add Gaussian noise to their sum, in every step of local training.

    Abadi et al. 2016, algorithm 1. Each step takes each example with the chance batch_size / n, by itself (Poisson
    sampling), and divides by the expected number; a step on all images takes all. One step returns (sum of clipped
    gradients + noise of standard deviation noise_multiplier x clip_norm) / expected number.

    To an attacker the update is Gaussian: its mean is that of the clipped gradients of the candidate, its variance that
    of the noise, summed over the steps. Exact for one step on all images, an approximation for more: see `core.replay`.

    Args:
        clip_norm: C > 0, the most that one example's gradient can be, in L2 over all parameters.
        noise_multiplier: sigma, the noise over C. Without it, give `epsilon` and `delta`.
        epsilon: The budget of the whole training. The audit finds the noise for it, or holds the given noise to it.
        delta: Of the budget, below 1 / n.
        clipping: "flat": times min(1, C / norm). "per_layer": the same for each of L layers with C / sqrt(L)
            (McMahan et al. 2018, arXiv 1710.06963). "automatic": times C / (norm + 0.01 C), without a bound to tune
            (Bu et al. 2023, arXiv 2206.07136).
        unit: "example", or "patient": the mean gradient of all images of a patient is clipped as one, and patients are
            sampled, so that the guarantee is the patient's.

    Raises:
        BadSetting: no strength, or a budget without its delta.

    Differs from the paper: the mean is over the expected number of examples, which is fixed, not over those drawn. The
    noise comes from a generator that repeats, not from a cryptographic one: this measures a protection, and is none.
    """

    name: ClassVar[str] = "dp_sgd"

    clipping: Clipping = "flat"
    unit: Unit = "example"

    @property
    def guarantee(self) -> str | None:
        """Differential privacy of the unit, where there is noise."""
        if self.noise_multiplier == 0:
            return None
        whose = "patient" if self.unit == "patient" else "image (not patient)"
        if self.epsilon is not None:
            return f"({self.epsilon:g}, {self.delta:g})-differential privacy of each {whose} over the whole training."
        return f"Differential privacy of each {whose}; epsilon follows from the noise, the sampling and the steps."

    def on_example_gradients(self, gradients: ExampleGradients) -> Tensors:
        """The sum of the clipped gradients."""
        return gradients.weighted_sum(clip_weights(self.clipping, gradients.squared_norms(), self.clip_norm))

    def on_example_sum(self, total: Tensors, expected: float, generator: torch.Generator | None) -> Tensors:
        """(Sum + noise) / expected; see `Defence.on_example_sum`."""
        std = self.noise * self.clip_norm
        if generator is None or not std:
            return {name: tensor / expected for name, tensor in total.items()}
        return {
            name: (tensor + std * torch.randn(tensor.shape, generator=generator).to(tensor)) / expected
            for name, tensor in total.items()
        }

    def privacy(self, exposure: Exposure) -> PrivacyEvent | None:
        """One Gaussian mechanism in each local step; see `Defence.privacy`."""
        units = exposure.patients if self.unit == "patient" else exposure.images
        if not self.noise_multiplier:
            return None
        return PrivacyEvent(
            site=exposure.site,
            unit="patient" if self.unit == "patient" else "image",
            units=units,
            sample_rate=exposure.sample_rate,
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            steps=exposure.steps,
            rounds=exposure.rounds,
            delta=default_delta(units) if self.delta is None else self.delta,
            group=1 if self.unit == "patient" else exposure.most_images,
            claimed=self.epsilon,
        )

    def step_variance(self, expected: float) -> float:
        """(noise_multiplier x clip_norm / expected)^2."""
        return (self.noise * self.clip_norm / expected) ** 2

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The update as local training left it: the defence has acted in its steps."""
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def expect(self, belief: Belief) -> Belief:
        """The belief itself: the replay of the steps holds the clipping and the noise's variance."""
        return belief

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """The Gaussian log density with the belief's variance; without one, as of a channel that is known exactly."""
        spread, tolerance = variances(belief), tolerances(seen)
        # Noise of zero is no noise: there the channel is known exactly.
        floor = {
            n: t if (s := spread[n]) is None else torch.where(s > 0, torch.zeros_like(t), t)
            for n, t in tolerance.items()
        }
        terms = [log_exact(seen[n], belief.mean[n], spread[n], floor[n]).sum() for n in seen]
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """Unchanged."""
        return encoding
