"""Whether burned-in text is gone, markers of the side are there, and clean pixels were left alone."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gradiograph.deid.scoring.tally import Tally
    from gradiograph.deid.synthetic.lettering import Burn

BURNED, MARKER, CLEAN, SPARED = "burned-in text: ", "marker of the side kept", "clean pixels", "clean images untouched"
LEGIBLE = 0.1  # of the ink: about one letter of a planted value
ALIKE = 0.6  # of a text that is read, to what was burned in
FLAT = 2  # grey levels of 255
TALL, STRONG = 12, 40


def judge_pixels(
    original: NDArray[np.generic],
    output: NDArray[np.generic],
    burns: Sequence[Burn],
    tally: Tally,
    file: int,
    read: Callable[[NDArray[np.uint8]], str],
) -> None:
    """Judge one image.

    Args:
        original: Stored values (frames, rows, columns[, samples]) or without frames.
        output: The same of the de-identified image.
        burns: What was burned in.
        tally: Where the verdicts go.
        file: The original's place in the key.
        read: Reads text from a grey image (rows, columns).
    """
    before, after = _grey(original), _grey(output)
    if before.shape != after.shape:
        tally.add(CLEAN, right=False, file=file, note=f"shape {after.shape} instead of {before.shape}")
        return
    changed = np.abs(before - after) > 5
    clean = np.ones(before.shape, dtype=bool)
    for made in burns:
        _judge_text(before, after, changed, made, tally, file, read)
        if not made.keep:
            clean[:, *_around(made)] = False
    tally.count(CLEAN, int((clean & ~changed).sum()), int(clean.sum()))
    if all(made.keep for made in burns):
        tally.add(SPARED, right=not changed.any(), file=file, note=f"{changed.mean():.2%} changed")


def stratum(made: Burn) -> str:
    """The row of the score in which a text counts."""
    if made.contrast < STRONG:
        return f"{BURNED}fainter than {STRONG} grey levels"
    if made.height < TALL:
        return f"{BURNED}lower than {TALL} pixels"
    if made.rotation:
        return f"{BURNED}rotated, {STRONG} grey levels and {TALL} pixels or more"
    return f"{BURNED}upright, {STRONG} grey levels and {TALL} pixels or more, over {made.over}"


def _judge_text(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    changed: NDArray[np.bool_],
    made: Burn,
    tally: Tally,
    file: int,
    read: Callable[[NDArray[np.uint8]], str],
) -> None:
    frames = list(made.frames)
    # Black ink on white is gone when the white turns black: a pixel of ink is left where nothing near it changed.
    near = np.stack([binary_dilation(changed[frame], iterations=2) for frame in frames])
    ink = np.broadcast_to(made.mask, (len(frames), *made.mask.shape))
    left = float((~near[:, *made.box])[ink].mean())
    if made.keep:
        tally.add(MARKER, right=left > 1 - LEGIBLE, file=file, place=made.text, note=f"{left:.0%} left")
        return
    inked = after[frames[0]][made.box][made.mask]
    touched = left > 0 or float(inked.std()) > FLAT  # else it is all one colour, and nobody can read it
    readable = left > LEGIBLE or (touched and _is_read(after[frames[0]][_around(made)], made, read))
    note = (
        f"{left:.0%} of the ink left; height {made.height}, contrast {made.contrast}, rotation {made.rotation}, "
        f"over {made.over}, at row {made.top}, column {made.left}"
    )
    tally.add(stratum(made), right=not readable, file=file, place=made.text, note=note)


def _is_read(crop: NDArray[np.float64], made: Burn, read: Callable[[NDArray[np.uint8]], str]) -> bool:
    upright = Image.fromarray(crop.astype(np.uint8)).rotate(-made.rotation, expand=True)
    text = read(np.asarray(upright)).replace(" ", "").casefold()
    return SequenceMatcher(None, text, made.text.replace(" ", "").casefold()).ratio() >= ALIKE


def _around(made: Burn) -> tuple[slice, slice]:
    rows, columns = made.box
    return (
        slice(max(0, rows.start - made.margin), rows.stop + made.margin),
        slice(max(0, columns.start - made.margin), columns.stop + made.margin),
    )


def _grey(pixels: NDArray[np.generic]) -> NDArray[np.float64]:
    """Frames (n, rows, columns) in [0, 255]."""
    values = pixels.astype(np.float64)
    if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[-1] == 3):
        values = values.mean(axis=-1)
    values = values if values.ndim == 3 else values[None]
    return values / 16 if pixels.dtype.itemsize > 1 else values
