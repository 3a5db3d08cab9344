"""What an update shows of one film: how much each coarse pattern, added to the film, would change what the server sees.

This tells a search that failed from an update that says nothing. It looks at the truth, so it is an oracle; no attack
gets any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradiograph.core.factored import OuterSum, factors

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.tensors import Belief, Tensors

    See = Callable[[Tensor], Belief]

CHANGE = 0.1
"""The root mean square change of the pixels whose trace in the update is measured."""
TOLERANCE = 1e-3
"""Where the channel adds no noise, a change counts as seen from this share of the norm of what is sent."""
SAMPLE = 2**15
"""Values of one tensor that are looked at; of a larger one a random sample stands for all."""
NONLINEAR = 0.25
"""From this relative disagreement between the change and twice the half of it on, it counts as not linear."""
CONDITION_LIMIT = 12.0
"""The largest log10 of a condition number that double precision tells from infinity."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """The directions of one film, the best visible first.

    Attributes:
        signals: (n,) squared signal over noise of a change of `CHANGE` along each direction, largest first.
        directions: (n, C, H, W), orthonormal.
        is_linear: Whether half the change has half the effect, to within `NONLINEAR`.
    """

    signals: Tensor
    directions: Tensor
    is_linear: bool

    @property
    def visible(self) -> int:
        """How many directions have more signal than noise."""
        return int((self.signals > 1).sum())

    @property
    def log_condition(self) -> float:
        """Log10 of the largest signal over the smallest, at most `CONDITION_LIMIT`, which an update without any has."""
        largest, smallest = float(self.signals[0]), float(self.signals[-1])
        if largest <= 0:
            return CONDITION_LIMIT
        return float(torch.tensor(largest / max(smallest, largest * 10**-CONDITION_LIMIT)).log10())

    def visible_part(self, film: Tensor, centre: Tensor) -> Tensor:
        """The centre plus what the visible directions show of the film's difference from it: (C, H, W) in [0, 1]."""
        shown = self.directions[: self.visible].to(film)
        strengths = torch.einsum("nchw,chw->n", shown, film - centre)
        return (centre + torch.einsum("n,nchw->chw", strengths, shown)).clamp(0, 1)


def low_frequencies(count: int, image_shape: tuple[int, int, int]) -> Tensor:
    """The `count` lowest frequencies of the two-dimensional cosine transform (DCT-II), grey: (count, C, H, W).

    Orthonormal. At most H * W of them exist; the first is the constant.
    """
    channels, height, width = image_shape
    frequencies = sorted(
        ((row, column) for row in range(height) for column in range(width)),
        key=lambda pair: ((pair[0] / height) ** 2 + (pair[1] / width) ** 2, pair),
    )
    waves = [torch.outer(_wave(row, height), _wave(column, width)) for row, column in frequencies[:count]]
    patterns = torch.stack(waves) / sqrt(channels)
    return patterns[:, None].expand(-1, channels, -1, -1).float().contiguous()


def spectrum(see: See, films: Tensor, place: int, basis: Tensor, generator: torch.Generator) -> Spectrum:
    """The spectrum of one film of a batch, the other films held at the truth.

    For each pattern v of the basis, the difference between what is seen at film + step v / 2 and at film - step v / 2,
    with a step of `CHANGE` in the pixels' root mean square: a central difference that is not taken to its limit, since
    the gradient of a network with ReLU jumps wherever a unit switches. The Gram matrix of these changes, each value in
    units of its noise, is for Gaussian noise the Fisher information on the patterns' strengths; its eigenvalues are the
    signals. The noise of a value is its variance under the channel (the mean over all these points), at least
    `TOLERANCE` of the root mean square. A channel without variance has none: there the whole change is measured
    against `TOLERANCE` times the norm of what is sent.

    Args:
        see: Films (B, C, H, W) -> what the server sees of their update, as a belief.
        films: The truth.
        place: Which of the films.
        basis: (n, C, H, W), orthonormal.
        generator: Draws the sample of a large tensor's values.
    """
    reading = _Reading.of(see(films), generator)
    step = CHANGE * sqrt(films[place].numel())

    def change(pattern: Tensor, size: float) -> tuple[Tensor, Tensor]:
        ends = [reading.of_belief(see(_moved(films, place, sign * size / 2 * pattern))) for sign in (1, -1)]
        return ends[0].mean - ends[1].mean, (ends[0].variance + ends[1].variance) / 2

    found = [change(pattern, step) for pattern in basis]
    changes = torch.stack([difference for difference, _ in found])
    weights = reading.weights / reading.noise(torch.stack([variance for _, variance in found]).mean(dim=0))
    signals, mixtures = torch.linalg.eigh((changes * weights) @ changes.T)
    gaps = [_gap(changes[k], 2 * change(basis[k], step / 2)[0], weights) for k in _probes(len(basis))]
    return Spectrum(
        signals=signals.flip(0).clamp_min(0),
        directions=torch.einsum("kn,kchw->nchw", mixtures.flip(1), basis.double()).float(),
        is_linear=max(gaps) < NONLINEAR,
    )


def updates(count: int) -> int:
    """How many updates the spectrum of one film takes with a basis of this many patterns."""
    return 1 + 2 * count + 2 * len(_probes(count))


class _Seen(NamedTuple):
    """The values of a belief that are looked at: both (m,), double; no variance is zero."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class _Reading:
    """Which values of an update are looked at.

    Attributes:
        places: Positions in each flattened tensor, by name.
        weights: (m,) how many values each one stands for.
        truth: What is seen at the truth.
    """

    places: Mapping[str, Tensor]
    weights: Tensor
    truth: _Seen

    @classmethod
    def of(cls, belief: Belief, generator: torch.Generator) -> _Reading:
        """The values of this belief and of all others of its shapes."""
        sizes = {name: _size(factors(belief.mean, name)) for name in belief.mean}
        places = {
            name: torch.arange(size) if size <= SAMPLE else torch.randint(size, (SAMPLE,), generator=generator)
            for name, size in sizes.items()
        }
        weights = [torch.full((len(chosen),), sizes[name] / len(chosen)) for name, chosen in places.items()]
        return cls(places, torch.cat(weights).double(), _read(belief, places))

    def of_belief(self, belief: Belief) -> _Seen:
        return _read(belief, self.places)

    def noise(self, variance: Tensor) -> Tensor:
        """The variance of each value, (m,) or a scalar; see `spectrum`."""
        power = (self.weights * self.truth.mean.square()).sum()
        floor = (TOLERANCE**2 * power).clamp_min(torch.finfo(torch.float32).tiny)
        return variance.maximum(floor / self.weights.sum()) if bool((variance > 0).any()) else floor


def _probes(count: int) -> list[int]:
    """The patterns on which the step is checked."""
    return sorted({0, count // 2, count - 1})


def _read(belief: Belief, places: Mapping[str, Tensor]) -> _Seen:
    mean = _gathered(belief.mean, places)
    variance = torch.zeros_like(mean) if belief.variance is None else _gathered(belief.variance, places)
    return _Seen(mean, variance)


def _gathered(tensors: Tensors, places: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([_values(factors(tensors, name), chosen) for name, chosen in places.items()]).detach().double()


def _values(tensor: Tensor | OuterSum, places: Tensor) -> Tensor:
    if not isinstance(tensor, OuterSum):
        return tensor.reshape(-1)[places.to(tensor.device)].cpu()
    places = places.to(tensor.left.device)
    width = tensor.right.shape[1]
    return (tensor.left[:, places // width] * tensor.right[:, places % width]).sum(dim=0).cpu()


def _size(tensor: Tensor | OuterSum) -> int:
    return tensor.left.shape[1] * tensor.right.shape[1] if isinstance(tensor, OuterSum) else tensor.numel()


def _moved(films: Tensor, place: int, shift: Tensor) -> Tensor:
    moved = films.clone()
    moved[place] += shift
    return moved


def _gap(whole: Tensor, doubled: Tensor, weights: Tensor) -> float:
    """The norm of the difference over that of the whole; infinite where only the whole is zero."""
    norms = [float((weights * change.square()).sum().sqrt()) for change in (doubled - whole, whole)]
    return norms[0] / norms[1] if norms[1] > 0 else (inf if norms[0] > 0 else 0.0)


def _wave(frequency: int, size: int) -> Tensor:
    """One orthonormal cosine (size,), double."""
    wave: Tensor = torch.cos(pi * frequency * (2 * torch.arange(size, dtype=torch.float64) + 1) / (2 * size))
    unit: Tensor = wave / wave.norm()
    return unit
