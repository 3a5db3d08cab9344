"""Cheap computed anatomy: enough structure to hide text in, and nobody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

if TYPE_CHECKING:
    from numpy.typing import NDArray

Modality = Literal["CR", "CT", "MR", "US", "OT"]

SHAPES: dict[Modality, tuple[int, int]] = {
    "CR": (400, 340),
    "CT": (256, 256),
    "MR": (224, 224),
    "US": (300, 400),
    "OT": (300, 400),
}
"""Rows and columns of each modality's images."""


def draw_anatomy(modality: Modality, rng: np.random.Generator) -> NDArray[np.float64]:
    """One image (rows, columns) in [0, 255].

    Args:
        modality: What it looks like: lungs and ribs, a slice of the trunk, a head, a fan of speckle, a grey page.
        rng: Where it comes from.
    """
    rows, columns = SHAPES[modality]
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    image = _DRAWINGS[modality](y, x, rng)
    noise = gaussian_filter(rng.normal(size=image.shape), 0.7) * (2.0 if modality != "OT" else 0.5)
    return np.asarray(np.clip(image + noise, 0, 255))


def _oval(
    y: NDArray[np.float64], x: NDArray[np.float64], cy: float, cx: float, ry: float, rx: float
) -> NDArray[np.float64]:
    """A soft oval: 1 inside, 0 outside."""
    return np.asarray(expit(-25 * (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 - 1)))


def _texture(shape: tuple[int, ...], rng: np.random.Generator, size: float, strength: float) -> NDArray[np.float64]:
    field = gaussian_filter(rng.normal(size=shape), size)
    return np.asarray(strength * field / field.std())


def _chest(y: NDArray[np.float64], x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    wide = float(rng.uniform(0.32, 0.4))
    image = 30 + 150 * _oval(y, x, 0.2, 0, 1.25, 0.95)
    lungs = _oval(y, x, 0.0, -0.42, 0.65, wide) + _oval(y, x, 0.0, 0.42, 0.65, wide)
    image = image - 95 * lungs + 45 * _oval(y, x, 0.25, 0.15, 0.35, 0.3)
    ribs = np.clip(np.sin(14 * (y + 0.5 * x**2) + float(rng.uniform(0, 6))), 0.6, 1) - 0.6
    return np.asarray(image + 70 * ribs * lungs + 60 * _oval(y, x, 0, 0, 2, 0.09) + _texture(y.shape, rng, 4, 5))


def _trunk(y: NDArray[np.float64], x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    body = _oval(y, x, 0, 0, 0.68, 0.88)
    image = 5 + 105 * body - 80 * (_oval(y, x, -0.05, -0.4, 0.4, 0.28) + _oval(y, x, -0.05, 0.4, 0.4, 0.28))
    image += 100 * _oval(y, x, 0.42, 0, 0.13, 0.13) + 30 * _oval(y, x, -0.1, 0.1, 0.22, 0.2)
    return np.asarray(image + body * _texture(y.shape, rng, 3, float(rng.uniform(4, 8))))


def _head(y: NDArray[np.float64], x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    skull, brain = _oval(y, x, 0, 0, 0.86, 0.7), _oval(y, x, 0, 0, 0.74, 0.58)
    image = 4 + 150 * skull - 130 * _oval(y, x, 0, 0, 0.8, 0.64) + 100 * brain
    image -= 70 * (_oval(y, x, -0.08, -0.1, 0.22, 0.07) + _oval(y, x, -0.08, 0.1, 0.22, 0.07))
    return np.asarray(image + brain * _texture(y.shape, rng, 2.5, 12))


def _fan(y: NDArray[np.float64], x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    depth, angle = np.hypot(y + 1.0, x), np.abs(np.arctan2(x, y + 1.0))
    inside = (depth > 0.25) & (depth < 1.75) & (angle < 0.62)
    speckle = 70 + _texture(y.shape, rng, 1.5, 22) + _texture(y.shape, rng, 9, 18)
    return np.asarray(np.where(inside, speckle - 55 * _oval(y, x, 0.1, 0.05, 0.2, 0.25), 6.0))


def _page(y: NDArray[np.float64], x: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(float(rng.uniform(20, 200)) + 10 * y + 10 * x)


_DRAWINGS = {"CR": _chest, "CT": _trunk, "MR": _head, "US": _fan, "OT": _page}
