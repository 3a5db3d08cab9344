"""The anatomy behind the phantom: one patient's thorax in numbers.

Lengths are in half image widths: x to the image's right (the patient's left), y down, z towards the detector.
The film shows [-1, 1] x [-1, 1] of the plane before zoom and shift.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradiograph.data.vessels import Tubes, grow_vessels

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from gradiograph.data.projection import Map


@dataclass(frozen=True, kw_only=True)
class Opacity:
    """One pneumonic opacity: an ellipse inside a lung, cut off at a fissure where it is lobar.

    Attributes:
        side: -1 in the patient's right lung (the image's left), 1 in the left.
        x: Distance of its centre from the midline.
        y: Level of its centre.
        a: Half axis across, as a standard deviation.
        b: Half axis down.
        angle: Of the axes, radians.
        strength: Share of the air that fluid replaces at the centre, in [0, 1].
        grain: How ragged it is.
        fissure: Level of the sharp lower border, None where there is none.
    """

    side: float
    x: float
    y: float
    a: float
    b: float
    angle: float
    strength: float
    grain: float
    fissure: float | None


ADULT = 0.5
"""The age from which on a patient is grown up."""


@dataclass(frozen=True, kw_only=True)
class Thorax:
    """One patient's anatomy; a film changes only its breath and its turn.

    Attributes:
        age: 0 an infant, barrel-shaped with a large heart and thymus; 1 an adult.
        cage_width, cage_depth: Half axes of the rib cage's inside at its widest.
        apex, base: Levels of the lungs' top and of the cage's widest place.
        roundness, taper: Exponents of the cage's outline between them.
        fat, habitus: Tissue outside the cage, and a factor on the body's depth.
        neck, shoulder: Half widths.
        arms_up, arm_angle, jaw: The position of the arms, and the level of the jaw's centre.
        heart_width, heart_height, heart_tilt: Half axes and tilt (radians) of the left ventricle.
        heart_x, heart_y: Its centre, from the midline and from the right dome.
        atrium, knob, trunk, mediastinum, thymus: Half widths of the right atrium and of the parts above the heart.
        dome, dome_difference, dome_height: Level of the right dome, how much lower the left is, fall to the side.
        trachea, trachea_bend: Radius, and shift at the aortic arch.
        spine_width, scoliosis, pitch: Half width, sideways bend and spacing of the vertebrae.
        bone: Factor on the density of all bones.
        rib_pairs, rib_first, rib_spacing, rib_drop, rib_height: Number, level of the first at the spine, distance,
            how far they slope down to the front, half thickness on the film.
        clavicle_slope, clavicle_height, scapula: How the shoulders hang; the scapula's shift outwards.
        breast, breast_y: Thickness (0 without) and level.
        stomach: Centre's x, half axes and half depth of the gas bubble, None without.
        bowel: x, y and radius of each loop with gas.
        markings, haze: Strength of vessels and grain; share of the air that is lost everywhere.
        turn: Shear of front against back, as after a turn of the body.
        breath: How much lower than usual the diaphragm stands on this film.
        vessels, texture, opacities: The lung vessels, the lungs' grain, and the disease.
    """

    age: float
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
    vessels: tuple[Tubes, ...]
    texture: NDArray[np.float32]
    opacities: tuple[Opacity, ...]

    @property
    def is_adult(self) -> bool:
        """Whether the patient is grown up."""
        return self.age > ADULT

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
    age = chance()
    apex, dome = u(-0.78, -0.62), u(0.30, 0.56)
    spacing = (dome + 0.17 - apex) / u(8.6, 10.4)
    stomach = (u(0.28, 0.5), u(0.1, 0.22), u(0.08, 0.2), u(0.06, 0.14)) if chance() < 0.6 else None
    bowel = tuple((u(-0.6, 0.75), u(0.75, 1.1), u(0.04, 0.13)) for _ in range(rng.integers(0, 6)))
    thorax = Thorax(
        age=age,
        cage_width=u(0.66, 0.8),
        cage_depth=u(0.36, 0.46),
        apex=apex,
        base=u(0.3, 0.7),
        roundness=u(1.9, 2.8),
        taper=u(1.9, 2.5),
        fat=u(0.03, 0.09) + 0.1 * chance() ** 3,
        habitus=u(0.9, 1.2),
        neck=u(0.2, 0.3),
        shoulder=u(0.8, 1.05),
        arms_up=float(chance() < 0.35),
        arm_angle=u(-0.15, 0.3),
        jaw=u(-1.5, -0.95) if chance() < 0.75 else -2.0,
        heart_width=u(0.34, 0.42) + 0.07 * (1 - age) * chance(),
        heart_height=u(0.23, 0.3),
        heart_tilt=u(0.35, 0.85),
        heart_x=u(0.1, 0.18),
        heart_y=u(-0.17, -0.06),
        atrium=u(0.12, 0.2),
        knob=u(0.05, 0.075) + 0.03 * age,
        trunk=u(0.06, 0.1),
        mediastinum=u(0.12, 0.17),
        thymus=u(0, 0.1) * (1 - age),
        dome=dome,
        dome_difference=u(0.0, 0.09),
        dome_height=u(0.2, 0.36),
        trachea=u(0.04, 0.06),
        trachea_bend=u(-0.02, 0.05),
        spine_width=u(0.07, 0.1),
        scoliosis=rng.normal(0, 0.018),
        pitch=u(0.095, 0.125),
        bone=u(0.75, 1.3),
        rib_pairs=int(rng.integers(10, 13)),
        rib_first=apex + u(-0.06, 0.03),
        rib_spacing=spacing,
        rib_drop=u(0.42, 0.72) + 0.1 * age,
        rib_height=u(0.024, 0.032),
        clavicle_slope=u(-0.22, 0.12),
        clavicle_height=u(-0.05, 0.1),
        scapula=u(0.0, 0.2),
        breast=u(0.06, 0.16) if age > ADULT and chance() < 0.5 else 0.0,
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
    thorax = replace(thorax, vessels=grow_vessels(rng, thorax.apex, thorax.dome, thorax.cage_width))
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
            side=float(side),
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
    markings = thorax.markings * (u(1.0, 1.3) if kind == 1 else u(1.15, 1.5))
    return replace(thorax, opacities=spots, haze=u(0.0, 0.12) if kind == 1 else u(0.1, 0.3), markings=markings)


def _lobar(thorax: Thorax, rng: Generator) -> Opacity:
    """A consolidated lobe: upper with a sharp lower edge at the fissure, middle at the heart, or lower."""
    u = rng.uniform
    height = thorax.dome - thorax.apex
    lobe = rng.choice(3, p=(0.25, 0.35, 0.4))
    y = thorax.apex + height * (u(0.22, 0.34), u(0.6, 0.75), u(0.8, 0.95))[lobe]
    return Opacity(
        side=-1.0 if rng.random() < (0.8, 0.6, 0.5)[lobe] else 1.0,
        x=(u(0.25, 0.4), u(0.18, 0.3), u(0.3, 0.5))[lobe],
        y=y,
        a=u(0.2, 0.36),
        b=u(0.18, 0.34),
        angle=u(-0.3, 0.3),
        strength=u(0.5, 1.0),
        grain=u(0.15, 0.5),
        fissure=y + u(0.06, 0.14) if lobe == 0 else None,
    )
