"""How the phantom's thickness map becomes a film: beam, scatter, noise, processing, tone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, cos, sin
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dctn, idctn

from gradiograph.data.skeleton import Map, Projection
from gradiograph.data.thorax import Thorax, thickness

if TYPE_CHECKING:
    from numpy.random import Generator

_FINEST = 128  # smaller films are rendered at this size or above and averaged down


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How one film is taken and processed.

    Attributes:
        zoom: Magnification of the anatomy.
        x: Where the film's centre lies in the anatomy's plane, half image widths.
        y: As x.
        tilt: Rotation in the plane, radians.
        attenuation: Of water, per half image width.
        scatter: Scattered share of the primary beam.
        detail: Strength of the unsharp mask that digital systems apply.
        bright: Film value of dense tissue, in (0, 1).
        dark: Film value of the lungs.
        black: Film value that is shown as black.
        noise: Relative quantum noise of the unattenuated beam in a pixel of a film of 128.
        gradient: Change of the beam across the film, horizontally and vertically.
        marker: Height and place of the side marker on the film, None where there is none.
    """

    zoom: float
    x: float
    y: float
    tilt: float
    attenuation: float
    scatter: float
    detail: float
    bright: float
    dark: float
    black: float
    noise: float
    gradient: tuple[float, float]
    marker: tuple[float, float, float] | None


def draw_setup(rng: Generator) -> Setup:
    """The patient's usual film: where the patient lies, and the machine."""
    u = rng.uniform
    return Setup(
        zoom=u(0.95, 1.3),
        x=rng.normal(0, 0.05),
        y=rng.normal(0.02, 0.06),
        tilt=rng.normal(0, 0.03),
        attenuation=u(2.8, 4.2),
        scatter=u(0.05, 0.25),
        detail=u(0.2, 1.2),
        bright=u(0.72, 0.86),
        dark=u(0.28, 0.5),
        black=u(0.04, 0.13),
        noise=u(0.0015, 0.006),
        gradient=(rng.normal(0, 0.04), rng.normal(0, 0.04)),
        marker=None,
    )


def vary_setup(setup: Setup, rng: Generator) -> Setup:
    """Another exposure of the same patient."""
    return replace(
        setup,
        zoom=setup.zoom * rng.uniform(0.97, 1.03),
        x=setup.x + rng.normal(0, 0.015),
        y=setup.y + rng.normal(0, 0.02),
        tilt=setup.tilt + rng.normal(0, 0.015),
        bright=setup.bright + rng.uniform(-0.02, 0.02),
        dark=setup.dark + rng.uniform(-0.03, 0.03),
        noise=setup.noise * rng.uniform(0.8, 1.25),
    )


def _blur(image: Map, sigma: float) -> Map:
    """Gaussian blur with mirrored borders; sigma in half image widths."""
    decay = np.exp(-0.5 * np.square(np.pi * sigma / 2 * np.arange(len(image), dtype=np.float32)))
    blurred: Map = idctn(dctn(image, norm="ortho") * (decay[:, None] * decay), norm="ortho")
    return blurred


def render(thorax: Thorax, setup: Setup, rng: Generator, size: int) -> Map:
    """Take a film.

    Args:
        thorax: The anatomy at the film's breath.
        setup: The exposure.
        rng: The film's own stream, for the noise.
        size: Pixels along a side.

    Returns:
        (size, size) in [0, 1], bright where dense.
    """
    n = size * ceil(_FINEST / size)
    grid = (np.arange(n, dtype=np.float32) + 0.5) * np.float32(2 / n) - 1
    across, down = np.meshgrid(grid, grid)
    c, s = cos(setup.tilt) / setup.zoom, sin(setup.tilt) / setup.zoom
    x, y = c * across - s * down + setup.x, s * across + c * down + setup.y
    matrix = np.linalg.inv([[c, -s], [s, c]]) * n / 2
    project = Projection(n, matrix, n / 2 - 0.5 - matrix @ np.array([setup.x, setup.y]))

    water = _blur(thickness(thorax, x, y, project), 0.007)
    primary = np.exp(-setup.attenuation * water) * (1 + setup.gradient[0] * across + setup.gradient[1] * down)
    exposure = primary + setup.scatter * _blur(primary, 0.25)
    grain = rng.standard_normal((n, n), dtype=np.float32) * np.float32(setup.noise * n / _FINEST)
    dose = np.log(np.maximum(exposure + grain * np.sqrt(np.maximum(exposure, 0)), 1e-3))
    dose += setup.detail * (dose - _blur(dose, 0.12))
    film = _develop(dose, water > 0.25, setup)
    k = n // size
    averaged: Map = film.reshape(size, k, size, k).mean((1, 3))
    return averaged


def _develop(dose: Map, body: Map, setup: Setup) -> Map:
    """The film curve: a sigmoid of the logarithmic dose, set so that dense tissue and lungs come out as asked."""
    dense, lung = np.quantile(dose[body], (0.1, 0.9)) if body.any() else (0.0, 1.0)
    bright, dark = (np.log(value / (1 - value)) for value in (setup.bright, setup.dark))
    slope = float((dark - bright) / max(lung - dense, 1e-3))
    film = 1 / (1 + np.exp(-float(bright) - slope * (dose - np.float32(dense))))
    shown: Map = np.clip((film - setup.black) / (1 - setup.black), 0, 1)
    return shown
