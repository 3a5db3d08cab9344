"""The sparse columns in the span of a matrix: directions q for which L q has more zeros than chance gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

BLOCK = 4096
"""Submatrices that are solved together."""
LOUD = 100.0
"""A row says something if it is this many times longer than the noise."""
ZERO = 6.0
"""An entry is zero if it is at most this many times the noise."""
LOOSE = 10.0
"""How much wider the first look at a sampled direction is: its own error comes on top of the noise."""
ALIKE = 1e-4
"""Rows, and directions, whose unit vectors differ by less are one."""
MORE = 3
"""Zeros beyond the B - 1 of a sample that make a direction a candidate."""
CROWD = 300.0
"""The same as a multiple of a typical row's noise: a noisy direction would fill the list with its neighbours."""
INDEPENDENT = 1e-3
"""What a unit vector must have outside the span of others to be independent of them."""
POOL = 32
"""Candidates that are kept, as a multiple of B."""


def row_space(gradient: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best factors of rank B, and the spectrum.

    Args:
        gradient: G (m, n).
        count: B, at most min(m, n).

    Returns:
        L (m, B) and R (B, n), float64, with R's rows orthonormal and L R nearest to G; and the singular values of G,
        falling. Those below 1e-8 of the largest are not resolved.
    """
    tall = gradient.shape[0] > gradient.shape[1]
    work = gradient.T if tall else gradient
    parts = 1 + work.shape[1] // 8192
    gram = torch.stack([part.double() @ part.double().T for part in work.tensor_split(parts, dim=1)]).sum(dim=0)
    values, vectors = torch.linalg.eigh(gram)
    spectrum = values.flip(0).clamp_min(0).sqrt()
    left = vectors.flip(1)[:, :count]
    if tall:
        return gradient.double() @ left, left.T, spectrum
    size = spectrum[:count].clamp_min(torch.finfo(torch.float64).tiny)
    right = torch.cat([(left / size).T @ part.double() for part in work.tensor_split(parts, dim=1)], dim=1)
    return left * size, right, spectrum


def sparse_directions(
    rows: Tensor, noise: float, generator: torch.Generator, samples: int
) -> Iterator[tuple[float, Tensor]]:
    """Directions q for which L q is zero in many rows (Dimitrov et al. 2024, arXiv 2403.03945, section 3.2).

    B - 1 rows that are zero in one column of a sparse matrix L Q determine this column of Q up to its length: it is
    orthogonal to them. So rows are drawn and their null vector is kept where many other rows are orthogonal to it too.

    Differs from the paper, where the probability that a sample hits falls exponentially in B: half of the samples take
    all rows but one from those that a direction found before makes zero. A mixture of few columns is such a direction;
    it is zero where they all are, and one more row that is zero in one of them leads there. Parallel rows are drawn
    as one; each direction is refitted to all rows that it makes zero, which takes away the error of its sample.

    Args:
        rows: L (m, B), float64.
        noise: Standard deviation of an entry of L.
        generator: Draws the rows.
        samples: How many submatrices are tried.

    Yields:
        After each block of samples the share of them that is done, and all directions found so far: (P, B) unit
        vectors, those with the most zeros first.
    """
    width = rows.shape[1]
    loud = rows[rows.norm(dim=1) > LOUD * noise]
    unit, error = loud / loud.norm(dim=1, keepdim=True), noise / loud.norm(dim=1)
    if width < 2:
        yield 1.0, rows.new_ones(width, width)
        return
    found, evidence = rows.new_zeros(0, width), rows.new_zeros(0)
    if len(unit) < width - 1:
        yield 1.0, found
        return
    alike = max(ALIKE, CROWD * float(error.median()))
    kinds = _kinds(unit, alike, generator)
    for done in range(0, samples, BLOCK):
        drawn = torch.randint(len(kinds), (BLOCK, width - 1), generator=generator)
        if len(found):
            drawn[::2] = _near(found, unit[kinds], error[kinds], drawn[::2], generator)
        new, weights = _refit(_null_vectors(unit[kinds[drawn]], generator), unit, error)
        found, evidence = _distinct(torch.cat([found, new]), torch.cat([evidence, weights]), alike)
        yield min(1.0, (done + BLOCK) / samples), found


def _near(found: Tensor, unit: Tensor, error: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Samples of the rows that a direction makes zero, all but one: a mixture of few columns leads to one of them."""
    # Beside columns that were found, their mixtures crowd the list; what is independent of them leads to new ones.
    found = found[independent(found)]
    place = torch.randint(len(found), (len(drawn),), generator=generator)
    zero = ((found @ unit.T).abs() < ZERO * error).float() + 1e-6
    near = torch.multinomial(zero[place], drawn.shape[1], generator=generator)
    near[:, 0] = drawn[:, 0]
    return near


def independent(candidates: Tensor) -> list[int]:
    """The places of those candidates (P, B) that are independent of all before them, at most B."""
    chosen: list[int] = []
    rest = candidates
    while bool((outside := rest.norm(dim=1) > INDEPENDENT).any()) and len(chosen) < candidates.shape[1]:
        chosen.append(int(outside.int().argmax()))
        axis = rest[chosen[-1]] / rest[chosen[-1]].norm()
        rest = rest - (rest @ axis)[:, None] * axis
    return chosen


def _kinds(unit: Tensor, alike: float, generator: torch.Generator) -> Tensor:
    """One row of each direction: its place."""
    side = torch.randn(unit.shape[1], generator=generator, dtype=unit.dtype)
    grid = (unit * (unit @ side).sign()[:, None] / alike).round()
    _, kind = torch.unique(grid, dim=0, return_inverse=True)
    place = torch.arange(len(unit))
    return place.new_full((int(kind.max()) + 1,), len(unit)).scatter_reduce(0, kind, place, "amin")


def _null_vectors(samples: Tensor, generator: torch.Generator) -> Tensor:
    """The unit vectors (N, B) orthogonal to N times B - 1 rows; samples of lower rank are left out."""
    width = samples.shape[2]
    side = torch.randn(len(samples), 1, width, generator=generator, dtype=samples.dtype)
    target = torch.zeros(len(samples), width, dtype=samples.dtype)
    target[:, -1] = 1
    vectors, info = torch.linalg.solve_ex(torch.cat([samples, side], dim=1), target)
    length = vectors.norm(dim=1)
    regular = (info == 0) & length.isfinite() & (length < 1 / ALIKE)
    found: Tensor = vectors[regular] / length[regular, None]
    return found


def _refit(vectors: Tensor, unit: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Those with more zeros than chance, refitted to them, and how many zeros they have then."""
    width = unit.shape[1]
    near = (vectors @ unit.T).abs() < LOOSE * ZERO * error
    near = torch.unique(near[near.sum(dim=1) >= width - 1 + MORE], dim=0)
    squares = (unit[:, :, None] * unit[:, None, :]).flatten(1) / error[:, None].square()
    grams = (near.to(unit.dtype) @ squares).reshape(-1, width, width)
    fitted = torch.linalg.eigh(grams)[1][:, :, 0]
    zero = (fitted @ unit.T).abs() < ZERO * error
    kept = zero.sum(dim=1) >= width - 1 + MORE
    return fitted[kept], zero[kept].to(unit.dtype) @ -(ZERO * error).log()


def _distinct(vectors: Tensor, evidence: Tensor, alike: float) -> tuple[Tensor, Tensor]:
    """The directions among these vectors, those with the most evidence first.

    Kept are those independent of all before them, and the first `POOL` a column.
    """
    order = evidence.argsort(descending=True, stable=True)
    chosen = order[independent(vectors[order])].tolist()
    left = vectors[order]
    kept: list[int] = []
    while len(left) and len(kept) < POOL * vectors.shape[1]:
        kept.append(int(order[0]))
        other = (left @ left[0]).square() < 1 - alike**2
        left, order = left[other], order[other]
    kept += [place for place in chosen if place not in kept]
    kept.sort(key=lambda place: -float(evidence[place]))
    return vectors[kept], evidence[kept]
