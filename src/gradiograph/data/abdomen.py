"""The anatomy behind the CT phantom: organs as bent ellipsoids in a patient's coordinates, in Hounsfield units.

Coordinates: x to the patient's left, y to the back, both in half image widths; z from the dome of the liver (0) to the
lower poles of the kidneys (1). Sizes and densities are those of textbooks, rounded; no measured patient is behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]
STRUCTURES = ("background", "body", "liver", "spleen", "kidneys", "spine")
AIR, FAT = -1000.0, -100.0
_BENDS = 3
"""Harmonics of an outline."""


@dataclass(frozen=True, kw_only=True)
class Organ:
    """One organ.

    Attributes:
        structure: Index in `STRUCTURES`.
        centre: x, y, z.
        axes: Half axes along x, y, z.
        tilt: In the plane, radians.
        drift: How far the centre moves in x and y along the whole way in z.
        bends: (2, n), cosine and sine of the outline's harmonics from the second on, as shares of the radius.
        density: In Hounsfield units.
    """

    structure: int
    centre: Triple
    axes: Triple
    tilt: float
    drift: tuple[float, float]
    bends: Floats
    density: float

    def inside(self, x: Floats, y: Floats, z: float) -> NDArray[np.bool_]:
        """Where the organ is in the slice at z."""
        height = (z - self.centre[2]) / self.axes[2]
        if abs(height) >= 1:
            return np.zeros(x.shape, dtype=np.bool_)
        along = z - self.centre[2]
        dx, dy = x - self.centre[0] - along * self.drift[0], y - self.centre[1] - along * self.drift[1]
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        u, v = (dx * cos + dy * sin) / self.axes[0], (dy * cos - dx * sin) / self.axes[1]
        angle, order = np.arctan2(v, u), np.arange(2, 2 + self.bends.shape[1])
        waves = np.cos(order * angle[..., None]) @ self.bends[0] + np.sin(order * angle[..., None]) @ self.bends[1]
        inside: NDArray[np.bool_] = np.hypot(u, v) < np.sqrt(1 - height**2) * (1 + waves)
        return inside


@dataclass(frozen=True)
class Abdomen:
    """A patient: the skin, the muscles within the fat, then the organs; later ones lie over earlier ones."""

    organs: tuple[Organ, ...]

    def section(self, x: Floats, y: Floats, z: float) -> tuple[Floats, NDArray[np.int64]]:
        """Densities in Hounsfield units and structures of the slice at z, both of the shape of x and y."""
        density, mask = np.full(x.shape, AIR), np.zeros(x.shape, dtype=np.int64)
        for organ in self.organs:
            inside = organ.inside(x, y, z)
            density[inside], mask[inside] = organ.density, organ.structure
        return density, mask


def draw_abdomen(rng: Generator) -> Abdomen:
    """A patient's anatomy."""
    n, u = rng.normal, rng.uniform
    width, depth, rim = u(0.7, 0.92), u(0.5, 0.66), u(0.05, 0.16)

    def organ(
        structure: str,
        centre: tuple[float, float, float],
        axes: tuple[float, float, float],
        density: float,
        wild: float,
    ) -> Organ:
        x, y, z = centre
        return Organ(
            structure=STRUCTURES.index(structure),
            centre=(x * width + n(0, 0.02), y * depth + n(0, 0.02), z + n(0, 0.04)),
            axes=(axes[0] * width * u(0.88, 1.14), axes[1] * depth * u(0.88, 1.14), axes[2] * u(0.92, 1.1)),
            tilt=n(0, 0.06),
            drift=(n(0, 0.05), n(0, 0.05)),
            bends=rng.normal(0, wild, (2, _BENDS)),
            density=density,
        )

    tall = 9.0  # the body goes on above and below
    body = organ("body", (0, 0, 0.5), (1, 1, tall), FAT + n(0, 5), 0.015)
    muscle = organ("body", (0, 0.02, 0.5), (1 - rim, 1 - 1.2 * rim, tall), u(30, 60), 0.015)
    belly = organ("body", (0, -0.1, 0.5), (0.78 - rim, 0.72 - rim, tall), FAT + u(0, 70), 0.03)
    bowel = [
        organ("body", (u(-0.4, 0.4), u(-0.45, 0.0), u(0.4, 1.1)), (0.16, 0.16, 0.35), u(0, 60), 0.06)
        for _ in range(int(rng.integers(3, 7)))
    ]
    kidney, vessel = u(30, 190), u(40, 200)
    return Abdomen(
        organs=(
            body,
            muscle,
            belly,
            *bowel,
            organ("liver", (-0.36, -0.08, 0.25), (0.44, 0.56, 0.55), u(45, 110), 0.06),
            organ("spleen", (0.58, 0.2, 0.3), (0.17, 0.32, 0.35), u(40, 120), 0.05),
            organ("kidneys", (-0.38, 0.42, 0.75), (0.15, 0.2, 0.45), kidney + n(0, 5), 0.05),
            organ("kidneys", (0.4, 0.42, 0.68), (0.15, 0.2, 0.45), kidney + n(0, 5), 0.05),
            organ("body", (0.06, 0.28, 0.5), (0.05, 0.06, tall), vessel, 0.01),
            organ("spine", (0, 0.5, 0.5), (0.17, 0.22, tall), u(180, 300), 0.04),
            organ("spine", (0, 0.78, 0.5), (0.07, 0.16, tall), u(250, 400), 0.05),
        )
    )
