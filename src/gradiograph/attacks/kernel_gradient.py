"""The gradient of one convolution, taken apart into each image's inputs and slopes: linear algebra alone.

The gradient of a kernel at offset o is G_o = sum_i D_i T_o A_i', with the columns of D_i (O, P) the slopes of the loss
at image i's outputs in P positions, those of A_i (I, P) its inputs, and T_o the shift by o on the grid of positions,
zero beyond its edge: one matrix for each offset, known, and the same for every image. Take a filter of one vector q_p
for each position: where q_p picks position p of a mixture of the images, the answers G_o q_p agree wherever two offsets
lead to the same place. As the shifts of a grid generate all matrices on it, only mixtures of the images do this: B
filters, whatever the layers above, the labels and the number of classes. (Blind identification of channels uses the
shifts of a convolution so: Moulines et al. 1995, doi 10.1109/78.348133.) What is left is a mixture of B feature maps by
a matrix (B, B), which nonnegative inputs, as after a ReLU, resolve: see `cone`.

It needs independent inputs, so B P at most the input channels: the deep layers of a network, where the grid is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.linalg import eigh

from gradiograph.attacks.mixture import unmix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

RESOLVED = 0.5
"""Largest disagreement of the images' filters as a share of the next one's: above it they are not told apart."""
SMALLEST = 1e-16
"""Power of an axis as a share of the gradient's below which it holds nothing."""
LARGEST = 4096
"""Unknowns of a filter, B P^2: the eigenvectors of a symmetric matrix of this size are found."""


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
    return positions > 1 and count * positions < channels and count * positions**2 <= LARGEST


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
    # Inputs and outputs change places: a filter on the inputs, whose answers are slopes.
    kernel = (double / double.norm()).transpose(0, 1).flip(2, 3)
    powers, axes = torch.linalg.eigh(kernel.flatten(1) @ kernel.flatten(1).T)
    for told in range(count, 0, -1):
        size = told * sides[0] * sides[1]
        if float(powers[-size]) <= SMALLEST:
            continue
        found, spread = axes[:, -size:], powers[-size:].sqrt()
        answers = torch.einsum("ir,iohw->hwro", found / spread, kernel)
        filters, disagreement = _agreeing(answers, told, sides)
        if disagreement[-2] < RESOLVED * disagreement[-1]:
            return _unmixed(answers, filters, found * spread, disagreement, sides, double.norm(), generator)
    return None


def _unmixed(
    answers: Tensor,
    filters: Tensor,
    axes: Tensor,
    disagreement: list[float],
    sides: tuple[int, int],
    norm: Tensor,
    generator: torch.Generator,
) -> FilmMaps | None:
    """The images' maps from the filters (B, P, R) of their mixtures; axes (I, R) are those that the filters are in."""
    count, _, size = filters.shape
    # G q_p = e: the filters are the inverse of the inputs.
    inverse, singular = torch.linalg.inv_ex(filters.reshape(size, size).T)
    if int(singular):
        return None
    mixture = unmix((inverse @ axes.T).reshape(count, -1), count, generator)
    if mixture is None or not mixture.is_sound():
        return None
    seen = torch.stack([_seen(answers, each, sides) for each in filters])
    slopes = torch.einsum("ji,jpo->ipo", mixture.mixing, seen) * norm
    shapes = (count, *sides, -1)
    return FilmMaps(
        inputs=mixture.features.reshape(shapes).movedim(-1, 1).float(),
        slopes=slopes.reshape(shapes).movedim(-1, 1).float(),
        disagreement=tuple(disagreement),
    )


def _agreeing(answers: Tensor, count: int, sides: tuple[int, int]) -> tuple[Tensor, list[float]]:
    """The B filters (B, P, R) whose answers agree best, and how far those and the next do not."""
    height, width, rank, _ = answers.shape
    flat = answers.flatten(0, 1)
    products = torch.einsum("aro,bso->abrs", flat, flat)
    positions = sides[0] * sides[1]
    agreed = answers.new_zeros(positions, rank, positions, rank)
    for pairs in _meetings(sides, (height, width)):
        for position, offset in pairs:
            for other, away in pairs:
                agreed[position, :, other] += products[offset, away] / len(pairs)
    size = positions * rank
    off = torch.eye(size).to(agreed) - agreed.reshape(size, size)
    values, vectors = eigh(off.numpy(force=True), subset_by_index=[0, min(count, size - 1)])
    filters = torch.from_numpy(vectors).to(answers).T[:count].reshape(count, positions, rank)
    return filters, [max(float(value), 0.0) for value in values]


def _seen(answers: Tensor, filters: Tensor, sides: tuple[int, int]) -> Tensor:
    """What filters (P, R) answer at each position (P, O), the mean over the ways that lead there."""
    flat = answers.flatten(0, 1)
    ways = _meetings(sides, (answers.shape[0], answers.shape[1]))
    means = [torch.stack([filters[p] @ flat[offset] for p, offset in pairs]).mean(dim=0) for pairs in ways]
    return torch.stack(means)


def _meetings(sides: tuple[int, int], kernel: tuple[int, int]) -> Iterator[list[tuple[int, int]]]:
    """For each position in turn the positions and offsets, by number, from which one comes there."""
    for row in range(sides[0]):
        for column in range(sides[1]):
            pairs = []
            for down in range(kernel[0]):
                for right in range(kernel[1]):
                    y, x = row - down + kernel[0] // 2, column - right + kernel[1] // 2
                    if 0 <= y < sides[0] and 0 <= x < sides[1]:
                        pairs.append((y * sides[1] + x, down * kernel[1] + right))
            yield pairs
