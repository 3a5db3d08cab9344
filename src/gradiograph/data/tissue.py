"""The X-ray thickness map of the phantom's thorax: chords of soft tissue, air, blood and bone along each ray."""

from __future__ import annotations

from math import cos, sin
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import map_coordinates

from gradiograph.data.projection import Map, Projection, splat
from gradiograph.data.skeleton import bone_points, spine
from gradiograph.data.vessels import vessel_points

if TYPE_CHECKING:
    from gradiograph.data.thorax import Thorax


def thickness(thorax: Thorax, x: Map, y: Map, project: Projection) -> tuple[Map, Map]:
    """The water-equivalent thickness along each ray, and the depth of the lungs, in half image widths.

    Args:
        thorax: The anatomy on this film.
        x: (n, n) positions of the pixels in the anatomy's plane.
        y: (n, n), as x.
        project: The same map for points: from the anatomy's plane to the pixels.

    Returns:
        Water (n, n), and the depth of the lungs before any disease (n, n), negative outside them.
    """
    inner = thorax.cage_half_width(y)
    r2 = np.square(x / np.maximum(inner, 1e-3))
    narrowing = inner / thorax.cage_width
    cage = 2 * thorax.cage_depth * (0.1 + 0.9 * narrowing) * np.sqrt(np.maximum(1 - r2 * (0.6 + 0.4 * r2), 0))
    filled = np.hypot(_mediastinum(thorax, x, y), _below_diaphragm(thorax, x, y))
    air = np.maximum(cage - filled, 0)
    grain = _texture(thorax, x, y)
    air = air * (1 - _opacity(thorax, x, y, grain)) * (1 + 0.025 * thorax.markings * grain)
    inside = np.clip(air / 0.12, 0, 1)
    body = _body(thorax, x, y)
    vx, vy, blood = vessel_points(thorax.vessels, project)
    stretch = (thorax.diaphragm - thorax.apex) / (thorax.dome - thorax.apex)
    vessels = splat((vx, thorax.apex + (vy - thorax.apex) * np.float32(stretch), blood), project)
    bones = splat(bone_points(thorax, project), project)
    soft = np.maximum(body - 0.78 * air - 1.2 * _airways(thorax, x, y) - 0.8 * _gas(thorax, x, y), 0.02 * body)
    water: Map = soft + 1.5 * thorax.markings * inside * vessels + thorax.bone * (bones + spine(thorax, x, y))
    return water, cage - filled


def _ellipsoid(x: Map, y: Map, cx: float, cy: float, a: float, b: float, depth: float, angle: float = 0.0) -> Map:
    """The chord along z through an ellipsoid of half axes a, b and `depth`, turned by `angle` in the plane."""
    c, s = cos(angle), sin(angle)
    p = ((x - cx) * c + (y - cy) * s) / a
    q = ((y - cy) * c - (x - cx) * s) / b
    return 2 * depth * np.sqrt(np.maximum(1 - p * p - q * q, 0))


def _capsule(x: Map, y: Map, start: tuple[float, float], end: tuple[float, float], radius: float) -> Map:
    """The chord along z through a round rod from `start` to `end`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    gap = (x - start[0] - along * dx) ** 2 + (y - start[1] - along * dy) ** 2
    return 2 * np.sqrt(np.maximum(radius * radius - gap, 0))


def _smooth_step(t: Map) -> Map:
    t = np.clip(t, 0, 1)
    step: Map = t * t * (3 - 2 * t)
    return step


def _body(thorax: Thorax, x: Map, y: Map) -> Map:
    """Soft tissue from skin to skin: trunk, neck, shoulders, arms, jaw and breasts."""
    trunk = thorax.cage_width + 0.05 + thorax.fat
    neck, shoulder = thorax.neck, thorax.shoulder_width
    front = thorax.cage_depth + 0.06 + 0.5 * thorax.fat
    # Level below the apex, half width, half depth.
    outline = np.array([
        (-0.6, neck, 0.8 * neck), (-0.3, neck, 0.85 * neck), (-0.16, 1.3 * neck, 0.85 * neck),
        (-0.05, 0.5 * (neck + shoulder), 0.3), (0.08, 0.9 * shoulder, 0.4), (0.25, shoulder, 0.85 * front),
        (0.45, 0.5 * (shoulder + trunk), 0.95 * front), (0.65, trunk, front), (1.0, trunk, front),
        (1.6, 0.98 * trunk, 0.96 * front), (2.4, 0.96 * trunk, 0.95 * front),
    ])  # fmt: skip
    fine = np.linspace(-2, 2, 201)
    soften = np.hanning(11) / np.hanning(11).sum()
    sharp = (np.interp(fine, outline[:, 0] + thorax.apex, outline[:, i]) for i in (1, 2))
    width, depth = (np.convolve(np.pad(value, 5, mode="edge"), soften, "valid") for value in sharp)
    r2 = np.square(x / np.interp(y, fine, width).astype(np.float32))
    chord = 2 * np.interp(y, fine, depth).astype(np.float32) * np.sqrt(np.maximum(1 - r2 * (0.5 + 0.5 * r2), 0))
    for side in (-1.0, 1.0):
        joint = (side * (shoulder - 0.13), thorax.apex + 0.16)
        elbow = (joint[0] + side * 0.9 * (0.3 + thorax.arm_angle), joint[1] + (-0.8 if thorax.arms_up else 0.9))
        chord = np.maximum(chord, _capsule(x, y, joint, elbow, 0.17 + 0.6 * thorax.fat))
        if thorax.breast:
            fold = _ellipsoid(x, y, side * 0.42, thorax.breast_y, 0.33, 0.26, thorax.breast / 2)
            chord = chord + fold * _smooth_step((y - thorax.breast_y) / 0.4 + 0.6)
    return np.maximum(chord, _ellipsoid(x, y, 0.0, thorax.jaw, 0.45, 0.32, 0.42)) * thorax.habitus


def _mediastinum(thorax: Thorax, x: Map, y: Map) -> Map:
    """The chord of heart, great vessels and midline, joined smoothly."""
    hx, hy = thorax.heart_x + 0.5 * thorax.turn, thorax.diaphragm + thorax.heart_y
    arch = 0.5 * (hy + thorax.apex) - 0.06
    parts = (
        _ellipsoid(x, y, hx, hy, thorax.heart_width, thorax.heart_height, 0.29, thorax.heart_tilt),
        _ellipsoid(x, y, hx - 0.2, hy - 0.02, thorax.atrium, 0.26, 0.27),
        _ellipsoid(x, y, hx - 0.06, thorax.diaphragm + 0.03, 0.8 * thorax.heart_width, 0.13, 0.3),
        _ellipsoid(x, y, 0.08 + 0.2 * thorax.turn, arch, thorax.knob, 1.2 * thorax.knob, 0.25),
        _ellipsoid(x, y, 0.09 + 0.3 * thorax.turn, 0.45 * arch + 0.55 * hy, thorax.trunk, 0.22, 0.3, -0.3),
        _ellipsoid(x, y, -0.07, arch, 0.08, 0.36, 0.25),
        _ellipsoid(x, y, 0.01, arch - 0.05, 0.12 + thorax.thymus, 0.34, 0.3),
    )
    r2 = np.square((x - thorax.spine_axis(y)) / thorax.mediastinum)
    column = 1.25 * thorax.cage_depth * np.maximum(1 - r2, 0)
    chord: Map = np.sqrt(sum((np.square(part) for part in parts), start=np.square(column)))
    return chord


def _below_diaphragm(thorax: Thorax, x: Map, y: Map) -> Map:
    """The chord that the domes take from the chest; they fall off to the back and to the front."""
    left = _smooth_step(x / 0.16 + 0.5)
    away = np.abs(x) / (0.44 * thorax.cage_width) - 1
    # Steep towards the costophrenic angle, nearly level towards the heart.
    fall = np.square(away) * np.where(away > 0, np.float32(thorax.dome_height * 0.7), np.float32(0.06))
    surface = thorax.diaphragm + thorax.dome_difference * left + fall
    chord: Map = 2 * thorax.cage_depth * np.sqrt(np.maximum(y - surface, 0) / 0.15)
    return chord


def _texture(thorax: Thorax, x: Map, y: Map) -> Map:
    """The patient's fixed grain, bilinear on a lattice in the anatomy's own coordinates."""
    scale = (len(thorax.texture) - 1) / 2.4
    grain: Map = map_coordinates(thorax.texture, [(y + 1.2) * scale, (x + 1.2) * scale], order=1, mode="nearest")
    return grain


def _opacity(thorax: Thorax, x: Map, y: Map, grain: Map) -> Map:
    """The share of the air that fluid replaces, in [0, 1]."""
    clear = np.full_like(x, 1 - thorax.haze)
    for spot in thorax.opacities:
        cy = spot.y + 0.7 * thorax.breath
        c, s = cos(spot.angle), sin(spot.angle)
        dx, dy = x - spot.side * spot.x, y - cy
        r2 = ((dx * c + dy * s) / spot.a) ** 2 + ((dy * c - dx * s) / spot.b) ** 2
        share = spot.strength * np.exp(-0.5 * np.maximum(r2 + 0.8 * spot.grain * grain * np.sqrt(r2 + 0.05), 0) ** 1.3)
        share = share * _smooth_step(0.5 + spot.side * x / 0.1)
        if spot.fissure is not None:
            share = share * _smooth_step((spot.fissure + 0.7 * thorax.breath + 0.15 * np.abs(x) - y) / 0.03 + 0.5)
        clear = clear * (1 - np.clip(share * (1 + 0.3 * spot.grain * grain), 0, 0.97))
    return 1 - clear


def _airways(thorax: Thorax, x: Map, y: Map) -> Map:
    """Trachea and main bronchi: air inside the mediastinum."""
    carina = thorax.diaphragm + thorax.heart_y - 0.28
    middle = -thorax.trachea_bend * np.exp(-(((y - carina + 0.15) / 0.2) ** 2)) + 0.3 * thorax.turn
    r = thorax.trachea
    column = 2 * r * np.sqrt(np.maximum(1 - ((x - middle) / r) ** 2, 0)) * _smooth_step((carina - y) / 0.06 + 0.5)
    bronchi = np.maximum(
        _capsule(x, y, (0.0, carina), (-0.16, carina + 0.14), 0.7 * r),
        _capsule(x, y, (0.0, carina), (0.2, carina + 0.12), 0.6 * r),
    )
    return np.maximum(column, 0.8 * bronchi)


def _gas(thorax: Thorax, x: Map, y: Map) -> Map:
    """Gas under the diaphragm: the stomach's bubble with its fluid level, and loops of bowel."""
    chord = np.zeros_like(x)
    if thorax.stomach is not None:
        sx, a, b, depth = thorax.stomach
        cy = thorax.diaphragm + thorax.dome_difference + 0.05 + b
        chord = _ellipsoid(x, y, sx, cy, a, b, depth) * _smooth_step((cy + 0.5 * b - y) / 0.06 + 0.5)
    for bx, by, r in thorax.bowel:
        chord = np.maximum(chord, _ellipsoid(x, y, bx, by + thorax.breath, r * 1.3, r, 0.6 * r))
    return chord
