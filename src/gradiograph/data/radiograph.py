"""How the phantom's thickness map becomes a film: beam, scatter, noise, processing, tone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, cos, sin
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dctn, idctn

from gradiograph.data.projection import Map, Points, Projection, curve, join, rod, splat
from gradiograph.data.tissue import thickness

if TYPE_CHECKING:
    from numpy.random import Generator

    from gradiograph.data.thorax import Thorax

_FINEST = 128  # smaller films are rendered at this size or above and averaged down
_STROKES = {
    "R": (
        ((-0.3, 0.5), (-0.3, -0.5)),
        ((-0.3, -0.45), (0.9, -0.65), (0.9, 0.15), (-0.3, 0.0)),
        ((0.0, 0.0), (0.4, 0.5)),
    ),
    "L": (((-0.3, -0.5), (-0.3, 0.5)), ((-0.35, 0.45), (0.4, 0.45))),
}


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
        marker: Letter, height and place of the side marker on the film, None where there is none.
        shutter: Left, right, upper and lower border of what the collimator leaves, on the film.
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
    marker: tuple[str, float, float, float] | None
    shutter: tuple[float, float, float, float]


def draw_setup(rng: Generator) -> Setup:
    """The patient's usual film: where the patient lies, and the machine."""
    u = rng.uniform
    letter = str(rng.choice(["R", "L"], p=(0.8, 0.2)))
    marker = (letter, u(0.07, 0.16), u(0.75, 0.92) * (-1 if letter == "R" else 1), u(-0.9, -0.1))
    left, right, upper, lower = (edge * (1 - abs(rng.normal(0.0, 0.08))) for edge in (-1, 1, -1, 1))
    marked, closed = rng.random(2) < (0.6, 0.2)
    return Setup(
        zoom=u(0.95, 1.3),
        x=rng.normal(0, 0.05),
        y=rng.normal(0.02, 0.06),
        tilt=rng.normal(0, 0.03),
        attenuation=u(2.8, 4.2),
        scatter=u(0.05, 0.25),
        detail=u(0.35, 1.4),
        bright=u(0.72, 0.86),
        dark=u(0.28, 0.5),
        black=u(0.04, 0.13),
        noise=u(0.0015, 0.006),
        gradient=(rng.normal(0, 0.04), rng.normal(0, 0.04)),
        marker=marker if marked else None,
        shutter=(left, right, upper, lower) if closed else (-2.0, 2.0, -2.0, 2.0),
    )


def vary_setup(setup: Setup, rng: Generator) -> Setup:
    """Another exposure of the same patient; the letter lies where it falls."""
    marker = setup.marker
    if marker is not None:
        marker = (*marker[:2], marker[2] + rng.normal(0, 0.03), marker[3] + rng.normal(0, 0.15))
    left, right, upper, lower = (edge * rng.uniform(0.98, 1.02) for edge in setup.shutter)
    return replace(
        setup,
        marker=marker,
        shutter=(left, right, upper, lower),
        zoom=setup.zoom * rng.uniform(0.97, 1.03),
        x=setup.x + rng.normal(0, 0.015),
        y=setup.y + rng.normal(0, 0.02),
        tilt=setup.tilt + rng.normal(0, 0.015),
        bright=setup.bright + rng.uniform(-0.02, 0.02),
        dark=setup.dark + rng.uniform(-0.03, 0.03),
        noise=setup.noise * rng.uniform(0.8, 1.25),
    )


def _gaussian(size: int, sigma: float) -> Map:
    """The transfer function (size, size) of a Gaussian blur over cosines; sigma in half image widths."""
    decay = np.exp(-0.5 * np.square(np.pi * sigma / 2 * np.arange(size, dtype=np.float32)))
    transfer: Map = decay[:, None] * decay
    return transfer


def _filter(image: Map, transfer: Map) -> Map:
    """A linear filter with mirrored borders, by the cosine transform."""
    filtered: Map = idctn(dctn(image, norm="ortho") * transfer, norm="ortho")
    return filtered


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

    water, lungs = thickness(thorax, x, y, project)
    water = _filter(water, _gaussian(n, 0.006))
    if setup.marker is not None:
        letter, height, *place = setup.marker
        bed = Projection(n, np.eye(2) * n / 2, np.full(2, n / 2 - 0.5))
        water = water + splat(_marker(letter, height, (place[0], place[1]), bed), bed)
    primary = np.exp(-setup.attenuation * water) * (1 + setup.gradient[0] * across + setup.gradient[1] * down)
    exposure = primary + setup.scatter * _filter(primary, _gaussian(n, 0.25))
    grain = rng.standard_normal((n, n), dtype=np.float32) * np.float32(setup.noise * n / _FINEST)
    dose = np.log(np.maximum(exposure + grain * np.sqrt(np.maximum(exposure, 0)), 1e-3))
    dose = _filter(dose, 1 + setup.detail * (1.5 - 0.5 * _gaussian(n, 0.15) - _gaussian(n, 0.04)))
    film = _develop(dose, water > 0.25, lungs > 0.3, setup)
    left, right, upper, lower = setup.shutter
    open_ = np.minimum(np.minimum(across - left, right - across), np.minimum(down - upper, lower - down))
    film = film * np.clip(open_ / 0.016 + 0.5, 0, 1)
    k = n // size
    averaged: Map = film.reshape(size, k, size, k).mean((1, 3))
    return averaged


def _develop(dose: Map, body: Map, lungs: Map, setup: Setup) -> Map:
    """The film curve: a sigmoid of the logarithmic dose, set so that dense tissue and lungs come out as asked."""
    dense, lung = np.quantile(dose[body], 0.1), np.quantile(dose[lungs], 0.75)
    bright, dark = (np.log(value / (1 - value)) for value in (setup.bright, setup.dark))
    slope = float((dark - bright) / max(lung - dense, 1e-3))
    film = 1 / (1 + np.exp(-float(bright) - slope * (dose - np.float32(dense))))
    shown: Map = np.clip((film - setup.black) / (1 - setup.black), 0, 1)
    return shown


def _marker(letter: str, height: float, place: tuple[float, float], project: Projection) -> Points:
    """A lead letter, R or L, lying on the film."""
    count = int(2 * height / project.pixel) + 3
    paths = [curve(stroke, count) * np.float32(height) + np.array(place, np.float32) for stroke in _STROKES[letter]]
    return join([rod(path, 0.08 * height, 0.14 * height, project) for path in paths])
