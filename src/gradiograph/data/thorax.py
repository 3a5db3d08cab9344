"""The anatomy behind the phantom: a patient's thorax in numbers, and its X-ray thickness map.

Lengths are in half image widths: x to the image's right (the patient's left), y down, z towards the detector.
The film shows [-1, 1] x [-1, 1] of the plane before zoom and shift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, sin
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data import skeleton
from gradiograph.data.skeleton import Map, splat

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Opacity:
    """One pneumonic opacity: an ellipse inside a lung, cut off at a fissure where it is lobar."""

    side: float
    x: float
    y: float
    a: float
    b: float
    angle: float
    strength: float
    grain: float
    fissure: float | None


@dataclass(frozen=True, kw_only=True)
class Thorax:
    """One patient's anatomy; a film changes only its breath and its turn."""

    cage_width: float
    cage_depth: float
    apex: float
    base: float
    roundness: float
    taper: float
    fat: float
    habitus: float
    neck: float
    shoulder: float
    arms_up: float
    arm_angle: float
    jaw: float
    heart_width: float
    heart_height: float
    heart_tilt: float
    heart_x: float
    heart_y: float
    atrium: float
    knob: float
    trunk: float
    mediastinum: float
    thymus: float
    dome: float
    dome_difference: float
    dome_height: float
    trachea: float
    trachea_bend: float
    spine_width: float
    scoliosis: float
    pitch: float
    bone: float
    rib_pairs: int
    rib_first: float
    rib_spacing: float
    rib_drop: float
    rib_height: float
    clavicle_slope: float
    clavicle_height: float
    scapula: float
    breast: float
    breast_y: float
    stomach: tuple[float, float, float, float] | None
    bowel: tuple[tuple[float, float, float], ...]
    markings: float
    haze: float
    turn: float
    breath: float
    vessels: tuple[skeleton.Tubes, ...]
    texture: NDArray[np.float32]
    opacities: tuple[Opacity, ...]

    @property
    def diaphragm(self) -> float:
        """The level of the right dome on this film."""
        return self.dome + self.breath

    @property
    def shoulder_width(self) -> float:
        """Half the width of the shoulders."""
        return max(self.shoulder, self.cage_width + 0.05 + self.fat)

    def cage_half_width(self, y: Map) -> Map:
        """Half the inner width of the rib cage at level y: a dome from the apex to the base, then straight."""
        levels = np.linspace(self.apex, self.base, 200)
        s = (self.base - levels) / (self.base - self.apex)
        return np.interp(y, levels, self.cage_width * (1 - s**self.roundness) ** (1 / self.taper)).astype(y.dtype)

    def spine_axis(self, y: Map) -> Map:
        """Where the spine stands at level y: slightly bent, and off the midline where the patient is turned."""
        return self.scoliosis * np.sin(2.2 * y + 0.7) - 0.7 * self.turn * self.cage_depth


def draw_thorax(rng: Generator, *, positive: bool) -> Thorax:
    """Draw one patient.

    Args:
        rng: The patient's own stream.
        positive: Whether the lungs hold opacities.
    """
    u, chance = rng.uniform, rng.random
    age = chance()  # 0 an infant: barrel-shaped, large heart and thymus; 1 an adult
    apex, dome = u(-0.78, -0.62), u(0.30, 0.56)
    spacing = (dome + 0.17 - apex) / u(8.6, 10.4)
    stomach = (u(0.28, 0.5), u(0.1, 0.22), u(0.08, 0.2), u(0.06, 0.14)) if chance() < 0.6 else None
    bowel = tuple((u(-0.6, 0.75), u(0.75, 1.1), u(0.04, 0.13)) for _ in range(rng.integers(0, 6)))
    thorax = Thorax(
        cage_width=u(0.66, 0.8),
        cage_depth=u(0.36, 0.46),
        apex=apex,
        base=u(0.3, 0.7),
        roundness=u(1.5, 2.3),
        taper=u(1.6, 2.3),
        fat=u(0.03, 0.09) + 0.1 * chance() ** 3,
        habitus=u(0.9, 1.2),
        neck=u(0.2, 0.3),
        shoulder=u(0.8, 1.05),
        arms_up=float(chance() < 0.35),
        arm_angle=u(-0.15, 0.3),
        jaw=u(-1.5, -0.95) if chance() < 0.75 else -2.0,
        heart_width=u(0.3, 0.38) + 0.07 * (1 - age) * chance(),
        heart_height=u(0.22, 0.28),
        heart_tilt=u(0.35, 0.85),
        heart_x=u(0.08, 0.18),
        heart_y=u(-0.23, -0.13),
        atrium=u(0.12, 0.2),
        knob=u(0.05, 0.075) + 0.03 * age,
        trunk=u(0.06, 0.1),
        mediastinum=u(0.085, 0.13),
        thymus=u(0, 0.1) * (1 - age),
        dome=dome,
        dome_difference=u(0.0, 0.09),
        dome_height=u(0.2, 0.36),
        trachea=u(0.03, 0.045),
        trachea_bend=u(-0.02, 0.05),
        spine_width=u(0.07, 0.1),
        scoliosis=rng.normal(0, 0.018),
        pitch=u(0.095, 0.125),
        bone=u(0.75, 1.3),
        rib_pairs=int(rng.integers(9, 12)),
        rib_first=apex - u(0.02, 0.1),
        rib_spacing=spacing,
        rib_drop=u(0.42, 0.72) + 0.1 * age,
        rib_height=u(0.024, 0.032),
        clavicle_slope=u(-0.22, 0.12),
        clavicle_height=u(-0.05, 0.1),
        scapula=u(0.0, 0.2),
        breast=u(0.06, 0.16) if age > 0.5 and chance() < 0.5 else 0.0,
        breast_y=u(0.2, 0.4),
        stomach=stomach,
        bowel=bowel,
        markings=u(0.7, 1.4),
        haze=0.0,
        turn=rng.normal(0, 0.06),
        breath=0.0,
        vessels=(),
        texture=rng.standard_normal((40, 40), dtype=np.float32),
        opacities=(),
    )
    thorax = replace(thorax, vessels=skeleton.grow_vessels(rng, thorax.apex, thorax.dome, thorax.cage_width))
    return _fall_ill(thorax, rng) if positive else thorax


def _fall_ill(thorax: Thorax, rng: Generator) -> Thorax:
    """Give the patient a pneumonia: lobar, patchy, or interstitial with perihilar haze."""
    u = rng.uniform
    kind = rng.choice(3, p=(0.45, 0.35, 0.2))
    if kind == 0:
        return replace(thorax, opacities=(_lobar(thorax, rng),), haze=u(0, 0.1))
    count = rng.integers(2, 6) if kind == 1 else 2
    middle, reach = 0.5 * (thorax.apex + thorax.dome), 0.5 * (thorax.dome - thorax.apex)
    sides = rng.choice((-1.0, 1.0), count) if kind == 1 else np.array((-1.0, 1.0))
    spots = tuple(
        Opacity(
            side=side,
            x=u(0.18, 0.5) if kind == 1 else u(0.16, 0.28),
            y=middle + reach * (u(-0.6, 0.85) if kind == 1 else u(-0.1, 0.4)),
            a=u(0.09, 0.22) if kind == 1 else u(0.18, 0.3),
            b=u(0.08, 0.2) if kind == 1 else u(0.25, 0.4),
            angle=u(-1, 1),
            strength=u(0.45, 1.0) if kind == 1 else u(0.35, 0.7),
            grain=u(0.3, 0.8),
            fissure=None,
        )
        for side in sides
    )
    markings = thorax.markings * (u(1.0, 1.3) if kind == 1 else u(1.4, 2.0))
    return replace(thorax, opacities=spots, haze=u(0.0, 0.12) if kind == 1 else u(0.1, 0.3), markings=markings)


def _lobar(thorax: Thorax, rng: Generator) -> Opacity:
    """A consolidated lobe: upper with a sharp lower edge at the fissure, middle at the heart, or lower."""
    u = rng.uniform
    height = thorax.dome - thorax.apex
    lobe = rng.choice(3, p=(0.25, 0.35, 0.4))
    y = thorax.apex + height * (u(0.22, 0.34), u(0.6, 0.75), u(0.8, 0.95))[lobe]
    return Opacity(
        side=float(rng.choice((-1.0, 1.0))),
        x=(u(0.25, 0.4), u(0.18, 0.3), u(0.3, 0.5))[lobe],
        y=y,
        a=u(0.2, 0.36),
        b=u(0.18, 0.34),
        angle=u(-0.3, 0.3),
        strength=u(0.5, 1.0),
        grain=u(0.15, 0.5),
        fissure=y + u(0.06, 0.14) if lobe == 0 else None,
    )


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
    return t * t * (3 - 2 * t)


def _body(thorax: Thorax, x: Map, y: Map) -> Map:
    """Soft tissue from skin to skin: trunk, neck, shoulders, arms, jaw and breasts."""
    trunk = thorax.cage_width + 0.05 + thorax.fat
    neck, shoulder = thorax.neck, thorax.shoulder_width
    front = thorax.cage_depth + 0.06 + 0.5 * thorax.fat
    # Level below the apex, half width, half depth.
    outline = np.array([
        (-0.6, neck, 0.8 * neck), (-0.3, neck, 0.85 * neck), (-0.16, 1.3 * neck, 0.85 * neck),
        (-0.05, 0.5 * (neck + shoulder), 0.27), (0.08, 0.9 * shoulder, 0.36), (0.25, shoulder, 0.85 * front),
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
        _ellipsoid(x, y, hx, hy, thorax.heart_width, thorax.heart_height, 0.36, thorax.heart_tilt),
        _ellipsoid(x, y, hx - 0.2, hy - 0.02, thorax.atrium, 0.26, 0.32),
        _ellipsoid(x, y, 0.08 + 0.2 * thorax.turn, arch, thorax.knob, 1.2 * thorax.knob, 0.25),
        _ellipsoid(x, y, 0.09 + 0.3 * thorax.turn, 0.45 * arch + 0.55 * hy, thorax.trunk, 0.22, 0.3, -0.3),
        _ellipsoid(x, y, -0.07, arch, 0.08, 0.36, 0.25),
        _ellipsoid(x, y, 0.01, arch - 0.05, 0.12 + thorax.thymus, 0.34, 0.3),
    )
    r2 = np.square((x - thorax.spine_axis(y)) / thorax.mediastinum)
    column = 2 * thorax.cage_depth * np.sqrt(np.maximum(1 - r2 * r2, 0))
    return np.sqrt(sum((np.square(part) for part in parts), start=np.square(column)))


def _below_diaphragm(thorax: Thorax, x: Map, y: Map) -> Map:
    """The chord that the domes take from the chest; they fall off to the back and to the front."""
    left = _smooth_step(x / 0.16 + 0.5)
    away = np.abs(x) / (0.56 * thorax.cage_width) - 1
    # Steep towards the costophrenic angle, nearly level towards the heart.
    fall = np.square(away) * np.where(away > 0, thorax.dome_height * 1.6, 0.07)
    surface = thorax.diaphragm + thorax.dome_difference * left + fall
    return 2 * thorax.cage_depth * np.sqrt(np.maximum(y - surface, 0) / 0.15)


def _texture(thorax: Thorax, x: Map, y: Map) -> Map:
    """The patient's fixed grain, bilinear on a lattice in the anatomy's own coordinates."""
    side = len(thorax.texture) - 1
    p, q = np.clip((x + 1.2) / 2.4, 0, 0.9999) * side, np.clip((y + 1.2) / 2.4, 0, 0.9999) * side
    i, j = q.astype(np.intp), p.astype(np.intp)
    fy, fx = _smooth_step(q - i), _smooth_step(p - j)
    t = thorax.texture
    top = t[i, j] * (1 - fx) + t[i, j + 1] * fx
    return top * (1 - fy) + (t[i + 1, j] * (1 - fx) + t[i + 1, j + 1] * fx) * fy


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


def thickness(thorax: Thorax, x: Map, y: Map, project: skeleton.Projection) -> Map:
    """The water-equivalent thickness along each ray, in half image widths.

    Args:
        thorax: The anatomy on this film.
        x: (n, n) positions of the pixels in the anatomy's plane.
        y: (n, n), as x.
        project: The same map for points: from the anatomy's plane to the pixels.
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
    vessels = splat(skeleton.vessel_points(thorax, project), project)
    bones = splat(skeleton.bone_points(thorax, project), project)
    soft = np.maximum(body - 0.78 * air - 0.9 * _airways(thorax, x, y) - 0.8 * _gas(thorax, x, y), 0.02 * body)
    spine = skeleton.spine(thorax, x, y)
    return soft + 0.9 * thorax.markings * inside * vessels + thorax.bone * (bones + spine)
