"""Text burned into pixels, of known place, height, contrast and rotation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono-Bold")
HEIGHTS = (8, 10, 12, 14, 18, 24)
CONTRASTS = (15, 25, 40, 60, 100, 160)
ROTATIONS = (0, 90, 180, 270, 10, -10)


@dataclass(frozen=True, kw_only=True)
class Burn:
    """One text in the pixels.

    Attributes:
        text: What it says.
        top, left: The corner of its box in the stored image, in pixels.
        ink: The box as rows of "1" where ink covers at least half a pixel and "0" elsewhere.
        height: Of a capital letter, in pixels.
        contrast: The least distance between the ink and nine tenths of what it covers, in grey levels of 255.
        rotation: Degrees, anticlockwise.
        over: "margin" or "anatomy".
        frames: The frames that carry it.
        keep: A laterality marker, which stays.
    """

    text: str
    top: int
    left: int
    ink: tuple[str, ...]
    height: int
    contrast: int
    rotation: int
    over: str
    frames: tuple[int, ...] = (0,)
    keep: bool = False

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The ink inside of its box (h, w)."""
        return np.array([[symbol == "1" for symbol in row] for row in self.ink])

    @property
    def box(self) -> tuple[slice, slice]:
        """The place of the box in the image."""
        rows, columns = self.mask.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)

    @property
    def margin(self) -> int:
        """How far around the ink a blackening may reach and still hold to the text, in pixels."""
        return max(4, self.height)

    def as_json(self) -> dict[str, Any]:
        """For the answer key."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Burn:
        """From the answer key."""
        return cls(**entry | {"ink": tuple(entry["ink"]), "frames": tuple(entry["frames"])})


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a text is burned in; the fields as in `Burn`."""

    height: int
    contrast: int
    rotation: int = 0
    over: str = "margin"
    font: str = FONTS[0]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """A style: half upright, half rotated; heights, contrasts, fonts and backgrounds at random."""
        rotation = 0 if rng.random() < 0.6 else int(rng.choice(ROTATIONS[1:]))
        return cls(
            height=int(rng.choice(HEIGHTS)),
            contrast=int(rng.choice(CONTRASTS)),
            rotation=rotation,
            over=str(rng.choice(["margin", "anatomy"])),
            font=str(rng.choice(FONTS)),
        )


def burn(
    image: NDArray[np.float64], text: str, style: Style, rng: np.random.Generator, taken: list[Burn]
) -> tuple[NDArray[np.float64], Burn] | None:
    """Write a text into an image.

    Args:
        image: (rows, columns) in [0, 255].
        text: ASCII.
        style: How.
        rng: Where it lands.
        taken: What is there already; the new text keeps clear of it.

    Returns:
        The image with the text and where it is; None where it does not fit.
    """
    alpha = _stencil(text, style)
    place = _place(image, alpha.shape, style, rng, taken)
    if place is None:
        return None
    top, left = place
    box = slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1])
    ink, contrast = _grey(image[box], style.contrast)
    drawn = image.copy()
    drawn[box] = alpha * ink + (1 - alpha) * image[box]
    rows = tuple("".join("1" if value else "0" for value in row) for row in alpha > 0.5)
    made = Burn(
        text=text,
        top=top,
        left=left,
        ink=rows,
        height=style.height,
        contrast=contrast,
        rotation=style.rotation,
        over=style.over,
    )
    return drawn, made


def _grey(under: NDArray[np.float64], contrast: int) -> tuple[float, int]:
    """The ink, so far from nearly all that it covers, and how far that is where there is not so much room."""
    low, high = (float(edge) for edge in np.percentile(under, (5, 95)))
    for ink in (high + contrast, low - contrast):
        if 0 <= ink <= 255:
            return ink, contrast
    return (255.0, round(255 - high)) if 255 - high > low else (0.0, round(low))


def _place(
    image: NDArray[np.float64], shape: tuple[int, ...], style: Style, rng: np.random.Generator, taken: list[Burn]
) -> tuple[int, int] | None:
    """A corner where the box is inside, clear of other text, and over the darkest or the brightest of ten places."""
    room = image.shape[0] - shape[0] - 4, image.shape[1] - shape[1] - 4
    if min(room) < 1:
        return None
    free = []
    for _ in range(20):
        top, left = int(rng.integers(2, room[0] + 2)), int(rng.integers(2, room[1] + 2))
        if not any(_touch(top, left, shape, other) for other in taken):
            free.append((float(image[top : top + shape[0], left : left + shape[1]].std()), top, left))
    if not free:
        return None
    _, top, left = (min if style.over == "margin" else max)(free)
    return top, left


def _touch(top: int, left: int, shape: tuple[int, ...], other: Burn) -> bool:
    gap = 2 * other.margin + 4
    rows, columns = other.mask.shape
    apart = top > other.top + rows + gap or other.top > top + shape[0] + gap
    return not (apart or left > other.left + columns + gap or other.left > left + shape[1] + gap)


def _stencil(text: str, style: Style) -> NDArray[np.float64]:
    """The text's coverage (h, w) in [0, 1], rotated and cropped to its ink."""
    font = _font(style.font, style.height)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, fill=255, font=font)
    turned = canvas.rotate(style.rotation, expand=True, resample=Image.Resampling.BICUBIC)
    box = turned.getbbox()
    return np.asarray(turned.crop(box), dtype=np.float64) / 255


@lru_cache(maxsize=64)
def _font(name: str, height: int) -> ImageFont.FreeTypeFont:
    """The font whose capitals are so many pixels high."""
    spec = find_spec("matplotlib")
    folder = Path(str(spec.origin if spec else "")).parent / "mpl-data" / "fonts" / "ttf"
    sizes = (ImageFont.truetype(str(folder / f"{name}.ttf"), size) for size in range(height, 3 * height))
    return min(sizes, key=lambda font: abs(font.getbbox("H")[3] - font.getbbox("H")[1] - height))
