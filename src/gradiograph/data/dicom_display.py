"""A DICOM image as it is meant to be looked at: windowed, from black to white."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from gradiograph.data.dicom_elements import read_numbers
from gradiograph.data.dicom_header import DicomImage
from gradiograph.data.dicom_pixels import frame_numbers, read_values, rescaled, through_table
from gradiograph.data.refusals import Refused
from gradiograph.data.windows import LevelAndWidth, Preset, apply_window, level_and_width

if TYPE_CHECKING:
    from numpy.typing import NDArray

Window = Literal["file", "range"] | Preset | LevelAndWidth
"""What becomes black and white: the file's own choice, the range of its values, a CT preset, or [level, width]."""


def read_film(image: DicomImage, frame: int, window: Window) -> NDArray[np.float32]:
    """One frame as it is meant to be looked at: windowed, with MONOCHROME1 turned so that more is lighter.

    Args:
        image: The file.
        frame: From 0.
        window: "file": its table or first window (PS3.3 C.11.2), the range of its values where it has neither.

    Returns:
        (H, W) or (H, W, 3) in [0, 1].

    Raises:
        Refused: the pixels cannot be decoded, or a CT preset is asked for of another modality.
    """
    values = read_values(image, frame)
    if values.ndim == 3:
        return values
    if not np.isfinite(values).all():
        msg = "has pixel values that are not finite. Export it again"
        raise Refused(msg)
    if isinstance(window, str) and window not in ("file", "range") and image.text("Modality") != "CT":
        msg = f"is no CT, but the window '{window}' is in Hounsfield units. Set window = 'file' or [level, width]"
        raise Refused(msg)
    shown = _windowed(image, frame, values, window)
    return 1 - shown if image.text("PhotometricInterpretation") == "MONOCHROME1" else shown


def has_window(image: DicomImage) -> bool:
    """Whether the file says what becomes black and white in its first frame."""
    try:
        return bool(frame_numbers(image, 0, "FrameVOILUTSequence", "WindowWidth")) or bool(
            image.header.get("VOILUTSequence")
        )
    except Exception:
        return False


def _windowed(image: DicomImage, frame: int, values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    if window == "file":
        table = image.header.get("VOILUTSequence")
        if table:
            try:
                shown, white = through_table(table[0], np.rint(values).astype(np.int64))
            except Exception:
                msg = "has a table for the display that cannot be used. Set window = 'range' or [level, width]"
                raise Refused(msg) from None
            return shown / np.float32(white)
        level = frame_numbers(image, frame, "FrameVOILUTSequence", "WindowCenter")
        width = frame_numbers(image, frame, "FrameVOILUTSequence", "WindowWidth")
        if level and width:
            return apply_voi(values, level[0], width[0], image.text("VOILUTFunction") or "LINEAR")
    if window in ("file", "range"):
        return _range(image, values)
    return apply_window(values, *level_and_width(window))  # type: ignore[arg-type] # "file" and "range" are done


def apply_voi(values: NDArray[np.float32], level: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    """A window as DICOM defines it, to [0, 1].

    Args:
        values: Any shape.
        level: WindowCenter.
        width: WindowWidth: at least 1 for LINEAR, above 0 for the others.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

    Raises:
        Refused: the width or the function does not exist.

    Source: PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not width >= (1 if function == "LINEAR" else 1e-9):
        msg = f"has a window of width {width:g} that its function does not allow. Set window = 'range'"
        raise Refused(msg)
    if function == "SIGMOID":
        steps = np.clip(-4 * (values - np.float32(level)) / np.float32(width), -80, 80)
        return np.asarray(1 / (1 + np.exp(steps)), np.float32)
    if function == "LINEAR":
        if width == 1:
            return (values > level - 0.5).astype(np.float32)
        level, width = level - 0.5, width - 1
    return ((values - np.float32(level)) / np.float32(width) + np.float32(0.5)).clip(0, 1)


def _range(image: DicomImage, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The range of the values without the padding around the image, whose value is below or above all others."""
    stored_padding = read_numbers(image.header, "PixelPaddingValue")
    counted = values
    if stored_padding:
        padding = rescaled(image, 0, np.array(stored_padding[:1]))
        counted = values[values != padding[0]]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    return np.asarray(((values - low) / (high - low)).clip(0, 1), np.float32) if high > low else np.zeros_like(values)
