"""Grey-value windows: the presets of computed tomography, and any level and width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import AfterValidator

if TYPE_CHECKING:
    from numpy.typing import NDArray

Preset = Literal["lung", "mediastinum", "soft_tissue", "liver", "bone", "brain", "subdural", "stroke"]
PRESETS: dict[Preset, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft_tissue": (50, 400),
    "liver": (30, 150),
    "bone": (400, 1800),
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (32, 8),
}
"""Level and width in Hounsfield units, as usual in reading rooms: Murphy, Baba, Windowing (CT), Radiopaedia.org,
doi 10.53347/rID-52108; for subdural the middle of its ranges."""


def _positive_width(window: tuple[float, float]) -> tuple[float, float]:
    if window[1] <= 0:
        msg = f"the window's width {window[1]:g} must be above 0; give [level, width]"
        raise ValueError(msg)
    return window


LevelAndWidth = Annotated[tuple[float, float], AfterValidator(_positive_width)]


def level_and_width(window: Preset | tuple[float, float]) -> tuple[float, float]:
    """The level and the width of a preset or of a window that is given as such.

    >>> level_and_width("lung")
    (-600, 1500)
    """
    return PRESETS[window] if isinstance(window, str) else window


def apply_window(values: NDArray[np.float32], level: float, width: float) -> NDArray[np.float32]:
    """Values from level - width / 2 to level + width / 2 become 0 to 1; what is outside is cut off.

    Args:
        values: Any shape.
        level: The middle, in the units of the values (Hounsfield units for CT).
        width: Above 0, in the same units.

    Returns:
        The same shape, float32 in [0, 1].
    """
    from monai.transforms.intensity.array import ScaleIntensityRange  # here, because it takes seconds to import

    low, high = level - width / 2, level + width / 2
    scaled = ScaleIntensityRange(a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True, dtype=np.float32)(values)
    return np.asarray(scaled, np.float32)


def apply_percentiles(values: NDArray[np.float32], low: float = 0.5, high: float = 99.5) -> NDArray[np.float32]:
    """Values between two percentiles become 0 to 1; for images without units, such as MR. A constant image becomes 0.

    Args:
        values: Any shape; the percentiles are over all of it.
        low: Percent.
        high: Percent.

    Returns:
        The same shape, float32 in [0, 1].
    """
    from monai.transforms.intensity.array import ScaleIntensityRangePercentiles

    bottom, top = np.percentile(values, (low, high))
    if not bottom < top:
        bottom, top = values.min(), values.max()
        if not bottom < top:
            return np.zeros_like(values)
        return apply_window(values, float(bottom + top) / 2, float(top - bottom))
    scaled = ScaleIntensityRangePercentiles(lower=low, upper=high, b_min=0.0, b_max=1.0, clip=True, dtype=np.float32)
    return np.asarray(scaled(values), np.float32)
