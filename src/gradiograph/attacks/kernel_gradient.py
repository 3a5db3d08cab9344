"""The gradient of one convolution, taken apart into each image's inputs and slopes: linear algebra alone.

The gradient of a kernel at offset o is G_o = sum_i D_i T_o A_i', with the columns of D_i (O, P) the slopes of the loss
at image i's outputs in P positions, those of A_i (I, P) its inputs, and T_o the shift by o on the grid of positions,
zero beyond its edge: one matrix for each offset, known, and the same for every image. Take a filter of one vector q_p
for each position: where q_p picks position p of a mixture of the images, the answers G_o q_p agree wherever two offsets
lead to the same place. As the shifts of a grid generate all matrices on it, only mixtures of the images do this: B
filters, whatever the layers above, the labels and the number of classes. (Blind identification of channels uses the
shifts of a convolution so: Moulines et al. 1995, doi 10.1109/78.348133.) What is left is a mixture of B feature maps by
a matrix (B, B), which nonnegative inputs, as after a ReLU, resolve: see `cone`.

The answers that meet in one place are summed by the convolution of the filter with the gradient. So the filters that
agree are those that lose no power when each place takes the mean of its answers: the first eigenvectors of the
convolution, that mean, and the transposed convolution. Lanczos' method needs such products only, and no matrix.

It needs independent inputs, so B P below the input channels: the deep layers of a network, where the grid is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn.functional import conv2d, conv_transpose2d

from gradiograph.attacks.mixture import unmix

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RESOLVED = 0.5
"""Largest disagreement of the images' filters as a share of the next one's: above it they are not told apart."""
SMALLEST = 1e-16
"""Power of an axis as a share of the gradient's below which it holds nothing."""


@dataclass(frozen=True, kw_only=True)
class FilmMaps:
    """What one convolution tells of each of B images that it tells from the others, in any order.

    Attributes:
        inputs: (B, I, H, W), each image's inputs to the convolution, up to their length: mean 1.
        slopes: (B, O, H, W), the slopes of the mean loss at its outputs, times that length.
        disagreement: How far the filters' answers disagree, as shares of their power: those of the B that were taken,
            and the next, rising.
    """

    inputs: Tensor
    slopes: Tensor
    disagreement: tuple[float, ...]


def fits(count: int, channels: int, sides: tuple[int, ...]) -> bool:
    """Whether the inputs of this many images can be told apart, on a grid of this size with this many channels."""
    positions = sides[0] * sides[1]
    return positions > 1 and count * positions < channels


def film_maps(gradient: Tensor, count: int, sides: tuple[int, int], generator: torch.Generator) -> FilmMaps | None:
    """The inputs and slopes of each image that is told from the others: of all, or of those whose slopes are not lost.

    An image that a trained network is sure of has slopes near zero; where rounding or noise buries them, fewer filters
    agree than there are images.

    Args:
        gradient: (O, I, h, w), of a convolution with odd h and w, stride 1 and zero padding to the same size.
        count: B.
        sides: (H, W) of its inputs, so that `fits` holds.
        generator: Draws the cone's directions.

    Returns:
        None where no image is told: the gradient is zero, or no filters agree much better than the next one, or their
        mixture holds no nonnegative vectors.
    """
    double = gradient.double()
    if not bool(double.any()):
        return None
    kernel = double / double.norm()
    by_input = kernel.transpose(0, 1).flatten(1)
    powers, axes = torch.linalg.eigh(by_input @ by_input.T)
    for told in range(count, 0, -1):
        size = told * sides[0] * sides[1]
        if float(powers[-size]) <= SMALLEST:
            continue
        found, spread = axes[:, -size:], powers[-size:].sqrt()
        answering = _Answering(kernel=torch.einsum("ir,oihw->orhw", found / spread, kernel), sides=sides)
        filters, disagreement = answering.agreeing(told)
        if disagreement[-2] < RESOLVED * disagreement[-1]:
            return _unmixed(answering, filters, found * spread, disagreement, double.norm(), generator)
    return None


def _unmixed(
    answering: _Answering,
    filters: Tensor,
    axes: Tensor,
    disagreement: list[float],
    norm: Tensor,
    generator: torch.Generator,
) -> FilmMaps | None:
    """The images' maps from the filters (B, R, H, W) of their mixtures; axes (I, R) are those that they are in."""
    count, size = len(filters), axes.shape[1]
    # G q_p = e: the filters are the inverse of the inputs.
    inverse, singular = torch.linalg.inv_ex(filters.transpose(0, 1).reshape(size, size))
    if int(singular):
        return None
    mixture = unmix((inverse @ axes.T).reshape(count, -1), count, generator)
    if mixture is None or not mixture.is_sound():
        return None
    slopes = torch.einsum("ji,johw->iohw", mixture.mixing, answering.means(filters)) * norm
    return FilmMaps(
        inputs=mixture.features.reshape(count, *answering.sides, -1).movedim(-1, 1).float(),
        slopes=slopes.float(),
        disagreement=tuple(disagreement),
    )


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """A gradient that answers to filters (n, R, H, W).

    Attributes:
        kernel: (O, R, h, w), in axes in which its power is 1 in all directions.
        sides: (H, W).
    """

    kernel: Tensor
    sides: tuple[int, int]

    def means(self, filters: Tensor) -> Tensor:
        """What filters answer at each position (n, O, H, W), the mean over the ways that lead there."""
        return conv2d(filters, self.kernel, padding=self._padding) / self._ways

    def agreeing(self, count: int) -> tuple[Tensor, list[float]]:
        """The B filters (B, R, H, W) whose answers agree best, and how far those and the next do not."""
        shape = (1, self.kernel.shape[1], *self.sides)
        size = prod(shape)

        def agreed(flat: NDArray[np.float64]) -> NDArray[np.float64]:
            means = self.means(torch.from_numpy(flat).to(self.kernel).reshape(shape))
            kept = conv_transpose2d(means, self.kernel, padding=self._padding)
            return kept.flatten().numpy(force=True)

        operator = LinearOperator((size, size), matvec=agreed, dtype=np.float64)
        begin = np.random.default_rng(0).standard_normal(size)
        # To the last digit, its default: only rounding shows more than one of the filters that agree equally well.
        values, vectors = eigsh(operator, k=count + 1, which="LA", v0=begin)
        filters = torch.from_numpy(vectors.T[::-1].copy()).to(self.kernel)[:count]
        return filters.reshape(count, *shape[1:]), [max(1 - float(value), 0.0) for value in values[::-1]]

    @cached_property
    def _ways(self) -> Tensor:
        """How many ways lead to each position."""
        one = torch.ones(1, 1, *self.sides).to(self.kernel)
        return conv2d(one, torch.ones_like(self.kernel[:1, :1]), padding=self._padding)

    @property
    def _padding(self) -> tuple[int, int]:
        return self.kernel.shape[2] // 2, self.kernel.shape[3] // 2
