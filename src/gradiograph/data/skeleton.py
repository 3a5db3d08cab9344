"""The parts of the phantom that are drawn as points: ribs, clavicles, shoulder bones and lung vessels; and the spine.

A bone is a cloud of points on its surface, each with a weight; adding the weights up pixel by pixel is the projection,
so a rib seen along its edge at the chest wall is bright by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, comb
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator

    from gradiograph.data.thorax import Thorax

Map: TypeAlias = NDArray[Any]  # float32
Points: TypeAlias = tuple[Map, Map, Map]


@dataclass(frozen=True)
class Projection:
    """Where a point of the anatomy's plane falls on a film of `size` pixels: pixel = matrix @ (x, y) + offset."""

    size: int
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def pixel(self) -> float:
        """The side of a pixel in the anatomy's units."""
        return float(1 / np.sqrt(np.abs(np.linalg.det(self.matrix))))


@dataclass(frozen=True)
class Tubes:
    """Bent tubes of one generation of vessels: quadratic Bezier curves in the plane.

    Attributes:
        knots: (m, 3, 2) control points.
        radius: (m,).
    """

    knots: NDArray[np.float32]
    radius: NDArray[np.float32]


def splat(points: Points, project: Projection) -> Map:
    """Add weighted points to the pixels around them, bilinearly; returns thickness (size, size)."""
    n = project.size
    (a, b), (c, d) = project.matrix.astype(np.float32)
    x, y, weight = points
    p, q = a * x + b * y + project.offset[0], c * x + d * y + project.offset[1]
    inside = (p > -1) & (p < n) & (q > -1) & (q < n)
    p, q, weight = p[inside] + 1, q[inside] + 1, weight[inside]
    i, j = q.astype(np.intp), p.astype(np.intp)
    fy, fx = q - i, p - j
    flat, width = i * (n + 2) + j, n + 2
    total = np.zeros(width * width)
    for step, share in ((0, (1 - fy) * (1 - fx)), (1, (1 - fy) * fx), (width, fy * (1 - fx)), (width + 1, fy * fx)):
        total += np.bincount(flat + step, weight * share, minlength=width * width)
    return (total.reshape(width, width)[1:-1, 1:-1] / project.pixel**2).astype(np.float32)


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
    angle, radius = fan, rng.uniform(0.015, 0.024, 2 * trunks)
    length = rng.uniform(0.16, 0.26, 2 * trunks) * (1 + 0.35 * np.abs(np.sin(fan))) * width / 0.72
    generations = []
    for _ in range(5):
        bend = angle + rng.normal(0, 0.22, len(angle))
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


def vessel_points(thorax: Thorax, project: Projection) -> Points:
    """The vessels as points, stretched with the breath."""
    stretch = (thorax.diaphragm - thorax.apex) / (thorax.dome - thorax.apex)
    found = []
    for tubes in thorax.vessels:
        a, b, c = (tubes.knots[:, i, None, :] for i in range(3))
        lengths = np.linalg.norm(tubes.knots[:, 2] - tubes.knots[:, 0], axis=1)
        count = max(4, ceil(lengths.max() / project.pixel))
        rows = max(2, ceil(2.2 * float(tubes.radius.max()) / project.pixel))
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
    return x, thorax.apex + (y - thorax.apex) * np.float32(stretch), weight.astype(np.float32)


def _rod(path: Map, height: float, mass: Map | float, project: Projection) -> Points:
    """A bone along paths (m, k, 2): a hard shell around a softer core, 2 `height` wide on the film.

    Args:
        path: The axes of m bones.
        height: Half the width on the film.
        mass: Water-equivalent cross-section that the rays cross; (m, k, 1) where it varies.
        project: The film, for the density of the points.
    """
    tangent = np.diff(path, axis=1)
    step = np.sqrt((tangent**2).sum(axis=2, keepdims=True))
    tangent = tangent / (step + np.float32(1e-9))
    path = path[:, :-1] + np.float32(0.5) * np.diff(path, axis=1)
    rows = max(3, ceil(2.6 * height / project.pixel))
    across = (np.arange(rows, dtype=np.float32) + 0.5) * 2 / rows - 1
    share = 0.5 * np.sqrt(1 - across**2) + 0.5 * np.abs(across) ** 3 + 0.1
    share = (share / share.sum()).astype(np.float32)
    offset = across * np.float32(height)
    x = path[..., 0:1] - tangent[..., 1:2] * offset
    y = path[..., 1:2] + tangent[..., 0:1] * offset
    weight = mass * step * share
    return x.ravel(), y.ravel(), weight.astype(np.float32).ravel()


def _ribs(thorax: Thorax, project: Projection) -> Points:
    """Ribs as tilted hoops around the cage: level at the back, sloping down to the front, no cartilage."""
    count = int(2.2 / project.pixel)
    theta = np.linspace(0.06, 1, count)
    k = np.arange(thorax.rib_pairs)[:, None]
    level = thorax.rib_first + k * thorax.rib_spacing * (1 + 0.012 * k) + 0.5 * thorax.breath * k / thorax.rib_pairs
    end = np.pi * np.interp(k, (0, 2, 6, 11), (0.72, 0.77, 0.74, 0.5))
    turn = theta * end
    drop = thorax.rib_drop * np.interp(k, (0, 3, 11), (0.5, 0.95, 1.05)) + 0.6 * thorax.breath
    y = level + drop * (0.5 * (1 - np.cos(turn))) ** 1.15 - 0.06 * np.sin(np.minimum(2 * turn, np.pi))
    half = thorax.cage_half_width(np.maximum(y, thorax.apex + 0.04)) + 0.012
    x = 0.05 + (half - 0.05) * np.sin(turn) ** 0.85
    z = -thorax.cage_depth * np.cos(turn)
    flat2 = np.diff(x, axis=1) ** 2 + np.diff(y, axis=1) ** 2
    # The rays cross a rib on edge at the chest wall along its length: arc in depth adds to what the film sees.
    arc = np.minimum(np.sqrt(1 + np.diff(z, axis=1) ** 2 / (flat2 + 1e-9)), 2.5)
    fade = np.interp(0.5 * (turn[:, 1:] + turn[:, :-1]), (1.4, 1.8, 2.4), (1.0, 0.85, 0.6))
    mass = (thorax.rib_height * 0.095 * arc * fade)[..., None].astype(np.float32)
    parts = []
    for side in (-1.0, 1.0):
        path = np.stack([side * x + thorax.turn * z, y], axis=2).astype(np.float32)
        parts.append(_rod(path, thorax.rib_height, mass, project))
    return _join(parts)


def _join(parts: list[Points]) -> Points:
    x, y, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return x, y, weight


def _curve(knots: tuple[tuple[float, float], ...], count: int) -> Map:
    """A smooth path (1, count, 2): the Bezier curve of these control points."""
    t = np.linspace(0, 1, count)[:, None]
    n = len(knots) - 1
    path = sum(comb(n, i) * t**i * (1 - t) ** (n - i) * np.array(knot) for i, knot in enumerate(knots))
    return np.asarray(path, dtype=np.float32)[None]


def _shoulders(thorax: Thorax, project: Projection) -> Points:
    """Clavicles, the borders of the scapulae and the upper arms."""
    parts = []
    count = int(1.2 / project.pixel)
    top = thorax.apex + thorax.clavicle_height
    wide = thorax.shoulder_width
    tip = top - 0.1 + thorax.clavicle_slope
    out = wide - 0.3 + thorax.scapula
    shift = thorax.turn * thorax.cage_depth
    lift = -0.75 if thorax.arms_up else 0.85
    for s in (-1.0, 1.0):
        socket, head = (s * (wide - 0.2), tip + 0.13), (s * (wide - 0.12), tip + 0.15)
        corner, low = (s * (out - 0.32), tip + 0.04), (s * (out - 0.1), tip + 0.7)
        elbow = (head[0] + s * 0.8 * (0.3 + thorax.arm_angle), head[1] + lift)
        sternal, neck = (s * 0.07 + shift, top + 0.14), (s * 0.3 + shift, top + 0.12)
        # Control points, half the width, water-equivalent cross-section.
        rods = (
            ((sternal, neck, (s * 0.4, tip - 0.08), (s * (wide - 0.18), tip + 0.02)), 0.026, 0.0042),
            ((corner, (s * (out - 0.33), tip + 0.4), low), 0.012, 0.0012),
            ((socket, (s * (out - 0.02), tip + 0.4), low), 0.02, 0.0026),
            ((corner, (s * (out - 0.1), tip + 0.12), socket), 0.018, 0.002),
            ((head, elbow), 0.045, 0.0065),
            (((head[0] - s * 0.05, head[1] - 0.05), (head[0] + s * 0.03, head[1] + 0.05)), 0.075, 0.01),
        )
        parts += [_rod(_curve(knots, count), height, mass, project) for knots, height, mass in rods]
    return _join(parts)


def bone_points(thorax: Thorax, project: Projection) -> Points:
    """All bones but the spine."""
    return _join([_ribs(thorax, project), _shoulders(thorax, project)])


def spine(thorax: Thorax, x: Map, y: Map) -> Map:
    """The vertebrae: bodies with bright end plates and darker discs, pedicles, spinous processes."""
    middle = thorax.spine_axis(y)
    levels = -1.5 + np.cumsum(np.r_[0, thorax.pitch * np.linspace(0.7, 1.3, 26)])
    f = np.interp(y, levels, np.arange(27.0)).astype(np.float32)
    f -= np.floor(f)
    u = np.abs((x - middle) / (thorax.spine_width * (0.9 + 0.12 * y)))
    edge = np.minimum(f, 1 - f)
    waist = 0.88 + 0.9 * (0.5 - edge) ** 2
    r2 = (u / waist) ** 2
    body = np.sqrt(np.maximum(1 - r2 * r2, 0))
    plate = np.exp(-(((edge - 0.13) / 0.06) ** 2))
    disc = np.exp(-((edge / 0.09) ** 2))
    pedicle = np.exp(-(((u - 0.6) / 0.16) ** 2) - ((f - 0.36) / 0.14) ** 2)
    process = np.exp(-((u / 0.14) ** 2) - ((f - 0.72) / 0.2) ** 2)
    transverse = np.exp(-(((u - 1.35) / 0.45) ** 2) - ((f - 0.36) / 0.15) ** 2)
    return 0.07 * body * (0.9 + 0.5 * plate - 0.75 * disc) + 0.045 * (pedicle + process) + 0.03 * transverse
