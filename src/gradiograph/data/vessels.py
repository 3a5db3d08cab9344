"""The phantom's lung vessels: a random tree from each hilum, drawn once per patient."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data.projection import Map, Points, Projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator


@dataclass(frozen=True)
class Tubes:
    """Bent tubes of one generation of vessels: quadratic Bezier curves in the plane.

    Attributes:
        knots: (m, 3, 2) control points.
        radius: (m,).
    """

    knots: Map
    radius: Map


def grow_vessels(rng: Generator, apex: float, dome: float, width: float) -> tuple[Tubes, ...]:
    """Grow the vessels of both lungs from the hila, one generation after the other.

    Args:
        rng: The patient's stream.
        apex: Level of the lung's top.
        dome: Level of its base.
        width: Half the cage's width.
    """
    trunks = 7
    hilum = 0.5 * (apex + dome) + rng.uniform(-0.03, 0.07)
    sides = np.repeat((-1.0, 1.0), trunks)
    fan = np.tile(np.linspace(-1.25, 1.4, trunks), 2) + rng.normal(0, 0.12, 2 * trunks)
    start = np.stack([sides * rng.uniform(0.12, 0.17), hilum - 0.03 * sides + 0.08 * np.sin(fan)], axis=1)
    angle, radius = fan, rng.uniform(0.013, 0.02, 2 * trunks)
    length = rng.uniform(0.16, 0.26, 2 * trunks) * (1 + 0.35 * np.abs(np.sin(fan))) * width / 0.72
    generations = []
    for _ in range(5):
        bend = angle + rng.normal(0, 0.33, len(angle))
        middle = start + 0.5 * length[:, None] * np.stack([sides * np.cos(angle), np.sin(angle)], axis=1)
        end = middle + 0.5 * length[:, None] * np.stack([sides * np.cos(bend), np.sin(bend)], axis=1)
        knots = np.stack([start, middle, end], axis=1)
        generations.append(Tubes(knots.astype(np.float32), radius.astype(np.float32)))
        fork = rng.uniform(0.25, 0.6, len(bend))
        angle = np.concatenate([bend - fork, bend + fork * rng.uniform(0.5, 1.0, len(bend))])
        sides, start = np.tile(sides, 2), np.tile(end, (2, 1))
        radius = np.tile(radius, 2) * rng.uniform(0.62, 0.82, len(angle))
        length = np.tile(length, 2) * rng.uniform(0.55, 0.85, len(angle))
    return tuple(generations)


def vessel_points(generations: Sequence[Tubes], project: Projection) -> Points:
    """The vessels as points; their weight is the thickness of blood."""
    found = []
    for tubes in generations:
        a, b, c = (tubes.knots[:, i, None, :] for i in range(3))
        lengths = np.linalg.norm(tubes.knots[:, 2] - tubes.knots[:, 0], axis=1)
        count = max(4, ceil(0.8 * lengths.max() / project.pixel))
        rows = max(1, ceil(2.2 * float(tubes.radius.max()) / project.pixel))
        across = (np.arange(rows, dtype=np.float32) + 0.5) * 2 / rows - 1
        profile = np.sqrt(1 - across**2) / np.sqrt(1 - across**2).sum()
        t = ((np.arange(count, dtype=np.float32) + 0.5) / count)[None, :, None]
        path = a * (1 - t) ** 2 + 2 * b * t * (1 - t) + c * t * t
        tangent = (b - a) * (1 - t) + (c - b) * t
        tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
        offset = tubes.radius[:, None, None] * across
        x = path[..., 0:1] - tangent[..., 1:2] * offset
        y = path[..., 1:2] + tangent[..., 0:1] * offset
        mass = np.pi * tubes.radius**2 * lengths / count
        weight = np.broadcast_to(mass[:, None, None] * profile, x.shape)
        found.append((x.ravel(), y.ravel(), weight.ravel()))
    x, y, weight = (np.concatenate(part) for part in zip(*found, strict=True))
    return x, y, weight.astype(np.float32)
