"""The phantom's bones: ribs, clavicles, shoulder bones and spine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data.projection import Map, Points, Projection, curve, join, rod

if TYPE_CHECKING:
    from gradiograph.data.thorax import Thorax


def bone_points(thorax: Thorax, project: Projection) -> Points:
    """All bones but the spine."""
    return join([_ribs(thorax, project), _shoulders(thorax, project)])


def _ribs(thorax: Thorax, project: Projection) -> Points:
    """Ribs as tilted hoops around the cage: level at the back, sloping down to the front, no cartilage."""
    count = int(1.4 / project.pixel)
    theta = np.linspace(0.06, 1, count)
    k = np.arange(thorax.rib_pairs)[:, None]
    level = thorax.rib_first + k * thorax.rib_spacing * (1 + 0.012 * k) + 0.5 * thorax.breath * k / thorax.rib_pairs
    end = np.pi * np.interp(k, (0, 1, 3, 6, 11), (0.5, 0.7, 0.84, 0.8, 0.5))
    turn = theta * end
    drop = thorax.rib_drop * np.interp(k, (0, 3, 11), (0.5, 0.95, 1.05)) + 0.6 * thorax.breath
    y = level + drop * (0.5 * (1 - np.cos(turn))) ** 1.05 - 0.03 * np.sin(np.minimum(2 * turn, np.pi))
    half = thorax.cage_half_width(np.maximum(y, thorax.apex + 0.04)) + 0.012
    half = np.maximum(half, 0.3)
    x = 0.05 + (half - 0.05) * np.sin(turn) ** 0.85
    z = -thorax.cage_depth * np.cos(turn)
    flat2 = np.diff(x, axis=1) ** 2 + np.diff(y, axis=1) ** 2
    # The rays cross a rib on edge at the chest wall along its length: arc in depth adds to what the film sees.
    arc = np.minimum(np.sqrt(1 + np.diff(z, axis=1) ** 2 / (flat2 + 1e-9)), 2.0)
    fade = np.interp(0.5 * (turn[:, 1:] + turn[:, :-1]), (1.4, 1.8, 2.4), (1.0, 0.9, 0.75))
    mass = (thorax.rib_height * 0.15 * arc * fade)[..., None].astype(np.float32)
    both = [np.stack([side * x + thorax.turn * z, y], axis=2) for side in (-1.0, 1.0)]
    path = np.concatenate(both).astype(np.float32)
    return rod(path, thorax.rib_height, np.concatenate([mass, mass]), project)


def _shoulders(thorax: Thorax, project: Projection) -> Points:
    """Clavicles, the borders of the scapulae and the upper arms."""
    count = int(1.0 / project.pixel)
    top = thorax.apex + thorax.clavicle_height
    wide = thorax.shoulder_width
    tip = top - 0.1 + thorax.clavicle_slope
    out = wide - 0.3 + thorax.scapula
    shift = thorax.turn * thorax.cage_depth
    lift = -0.75 if thorax.arms_up else 0.85
    socket, head, tail = (wide - 0.2, tip + 0.13), (wide - 0.12, tip + 0.15), (wide - 0.09, tip + 0.2)
    corner, low, rim = (out - 0.32, tip + 0.04), (out - 0.1, tip + 0.7), (wide - 0.17, tip + 0.1)
    elbow = (head[0] + 0.8 * (0.3 + thorax.arm_angle), head[1] + lift)
    # Control points on the patient's left, half the width, water-equivalent cross-section.
    rods = (
        (((0.07, top + 0.14), (0.3, top + 0.12), (0.4, tip - 0.08), (wide - 0.18, tip + 0.02)), 0.026, 0.0055),
        ((corner, (out - 0.33, tip + 0.4), low), 0.012, 0.0012),
        ((socket, (out - 0.02, tip + 0.4), low), 0.02, 0.0026),
        ((corner, (out - 0.1, tip + 0.12), socket), 0.018, 0.002),
        ((head, elbow), 0.045, 0.0065),
        ((rim, tail), 0.075, 0.01),
    )
    parts = []
    for knots, height, mass in rods:
        path = curve(knots, count)
        both = np.concatenate([path * np.array([side, 1], np.float32) for side in (-1, 1)])
        both[..., 0] += shift * np.clip(
            1.5 - 2 * path[..., 0], 0, 1
        )  # a turn moves the front: the clavicles' inner ends
        parts.append(rod(both, height, mass, project))
    return join(parts)


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
    bone: Map = 0.085 * body * (1.0 + 0.8 * plate - 0.8 * disc) + 0.07 * pedicle + 0.05 * process + 0.035 * transverse
    return bone
