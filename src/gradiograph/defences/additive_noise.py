"""Independent noise on every value: what Gaussian and Laplace noise share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from gradiograph.core.defence import Defence, Encoding
from gradiograph.core.errors import BadSetting
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import count, log_exact, mean_square, tolerances, variances
from gradiograph.defences.summation import summed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gradiograph.core.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise(Defence, ABC):
    """v = u + noise, of a fixed variance or of a fixed ratio of signal power to noise power.

    The ratio is over the whole update: snr = ||u||^2 / (d variance). The server, which never sees u, takes the variance
    from E||v||^2 = ||u||^2 (1 + 1 / snr).
    """

    @abstractmethod
    def _fixed_variance(self) -> float | None:
        """The variance of the noise, None where it is relative to the update."""

    @abstractmethod
    def _snr(self) -> float:
        """The ratio of powers, where the variance is not fixed."""

    @abstractmethod
    def _draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of variance 1 with the shape of `like`."""

    @abstractmethod
    def _log_density(self, noise: Tensor, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
        """Log density of each value, for noise of the variance `noise` > 0."""

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The update plus noise drawn independently for every value."""
        std = self._variance(mean_square(tensors)).sqrt()
        if std == 0:
            return dict(tensors)
        return {name: tensor + std * self._draw(tensor, generator) for name, tensor in tensors.items()}

    def expect(self, belief: Belief) -> Belief:
        """The same mean; the noise's variance is added. Exact in mean and variance (snr: for the belief's power)."""
        spread = variances(belief)
        power = mean_square(belief.mean)
        if belief.variance is not None:
            power = power + sum(tensor.sum() for tensor in belief.variance.values()) / count(belief.mean)
        noise = self._variance(power)
        if noise == 0:
            return belief
        total = {}
        for name, mean in belief.mean.items():
            before = spread[name]
            total[name] = noise.expand_as(mean) if before is None else before + noise
        return Belief(belief.mean, total)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log density of the noise at the residual; a strength of zero is scored as a deterministic channel."""
        fixed = self._fixed_variance()
        noise = mean_square(seen) / (1 + self._snr()) if fixed is None else self._variance(mean_square(seen))
        spread = variances(belief)
        if noise == 0:
            tolerance = tolerances(seen)
            terms = [log_exact(seen[n], belief.mean[n], spread[n], tolerance[n]).sum() for n in seen]
        else:
            terms = [self._score(noise, seen, belief.mean, spread[name], name) for name in seen]
        return torch.stack(terms).sum()

    def _score(self, noise: Tensor, seen: Tensors, mean: Tensors, variance: Tensor | None, name: str) -> Tensor:
        """The log density of one tensor's noise, a scalar."""
        return summed(partial(self._log_density, noise), seen[name], mean[name], variance)

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """Dense floating point again, whatever came before; unchanged at strength zero."""
        return encoding if self._fixed_variance() == 0 else Encoding(num_values=count(sent))

    def _variance(self, power: Tensor) -> Tensor:
        fixed = self._fixed_variance()
        return power / self._snr() if fixed is None else torch.full_like(power, fixed)


def one_strength(name: str, ways: Mapping[str, bool]) -> None:
    """Check that exactly one way of stating the strength is used.

    Args:
        name: The component.
        ways: Whether each way, by its settings' names, was given.

    Raises:
        BadSetting: none or several were given.
    """
    given = [way for way, used in ways.items() if used]
    if len(given) != 1:
        msg = (
            f"defence '{name}' was given {' and '.join(given) or 'no strength'}; "
            f"state its strength in exactly one way: {', or '.join(ways)}."
        )
        raise BadSetting(msg)
