"""How the phantom projects thin parts: as clouds of weighted points that are added up pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, comb
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Map: TypeAlias = NDArray[Any]  # float32
Points: TypeAlias = tuple[Map, Map, Map]  # x, y, weight: thickness times area


@dataclass(frozen=True)
class Projection:
    """Where a point of the anatomy's plane falls on a film of `size` pixels: pixel = matrix @ (x, y) + offset."""

    size: int
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @cached_property
    def pixel(self) -> float:
        """The side of a pixel in the anatomy's units."""
        return float(1 / np.sqrt(np.abs(np.linalg.det(self.matrix))))


def splat(points: Points, project: Projection) -> Map:
    """Add weighted points to the pixels around them, bilinearly; returns thickness (size, size)."""
    n = project.size
    (a, b), (c, d) = project.matrix.astype(np.float32)
    x, y, weight = points
    # One pixel of margin on each side collects what falls outside.
    p = np.clip(a * x + b * y + np.float32(project.offset[0]), -1, n - 0.01) + 1
    q = np.clip(c * x + d * y + np.float32(project.offset[1]), -1, n - 0.01) + 1
    i, j = q.astype(np.intp), p.astype(np.intp)
    width = n + 2
    flat = i * width + j
    lower, right = q - i, p - j
    lower_weight, right_weight = weight * lower, weight * right
    both = lower_weight * right
    shares = (weight - lower_weight - right_weight + both, right_weight - both, lower_weight - both, both)
    total = np.zeros(width * width)
    for step, share in zip((0, 1, width, width + 1), shares, strict=True):
        total += np.bincount(flat + step, share, minlength=width * width)
    return (total.reshape(width, width)[1:-1, 1:-1] / project.pixel**2).astype(np.float32)


def join(parts: list[Points]) -> Points:
    """All points together."""
    x, y, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return x, y, weight


def curve(knots: tuple[tuple[float, float], ...], count: int) -> Map:
    """A smooth path (1, count, 2): the Bezier curve of these control points."""
    path: Map = _bernstein(len(knots) - 1, count) @ np.array(knots, np.float32)
    return path[None]


@lru_cache(maxsize=64)
def _bernstein(degree: int, count: int) -> Map:
    """The Bernstein polynomials (count, degree + 1) at `count` places in [0, 1]."""
    t = np.linspace(0, 1, count)
    return np.stack([comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)], 1).astype(np.float32)


def rod(path: Map, height: float, mass: Map | float, project: Projection) -> Points:
    """A rod, such as a bone, along paths (m, k, 2): a hard shell around a softer core, 2 `height` wide on the film.

    Args:
        path: The axes of m rods.
        height: Half the width on the film.
        mass: Water-equivalent cross-section that the rays cross; (m, k, 1) where it varies.
        project: The film, for the density of the points.
    """
    tangent = np.diff(path, axis=1)
    step = np.sqrt((tangent**2).sum(axis=2, keepdims=True))
    tangent = tangent / (step + np.float32(1e-9))
    path = path[:, :-1] + np.float32(0.5) * np.diff(path, axis=1)
    rows = max(3, ceil(2.2 * height / project.pixel))
    across = (np.arange(rows, dtype=np.float32) + 0.5) * 2 / rows - 1
    share = 0.4 * np.sqrt(1 - across**2) + 0.8 * np.abs(across) ** 3 + 0.15
    share = (share / share.sum()).astype(np.float32)
    offset = across * np.float32(height)
    x = path[..., 0:1] - tangent[..., 1:2] * offset
    y = path[..., 1:2] + tangent[..., 0:1] * offset
    weight = mass * step * share
    return x.ravel(), y.ravel(), weight.astype(np.float32).ravel()
