"""Burned-in text: where it is in an image, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = 32  # the detector's network halves its input five times
_SIDE = 1600  # longer images are shrunk to it: text of 12 px in 2,000 is still 9 px
_FINE = 2.0  # the detector was trained on letters of 20 px and more: the second look is at twice the size
_BLUR = 12.0  # pixels; anatomy is coarser than this, letters are finer
_GAIN = 2.5
_BOX_THRESHOLD = 0.3  # of the detector's mean score in a box; its own 0.5 loses faint lines
_LEAST = 3.0  # pixels
_LETTERS = 2  # one alone is a mark of the side, or the shape of a rib
_SURE = 0.75  # bones that look like two or three letters are read with up to 0.66, burned-in text with 0.84 and more
_LONG = 4  # letters: this many are text however badly they are read
_UNCLIP = 2.2  # how far a box is grown; its own 1.6 cuts the ends of lines off


@dataclass(frozen=True, kw_only=True)
class TextRegion:
    """A line of text in an image.

    Attributes:
        corners: (4, 2) x and y in pixels, around the line in order.
        text: What was read, possibly wrong or empty. It may name a patient: never log it.
        confidence: Of the reading, in [0, 1].
    """

    corners: tuple[tuple[float, float], ...]
    text: str = field(repr=False)
    confidence: float


class TextFinder:
    """Finds lines of text at any angle, bright or dark, also over anatomy.

    The networks are PP-OCR's, as RapidOCR ships them: a detector of text and a recogniser. The image is looked at as it
    is and once more without what is coarser than letters, which raises text of low contrast out of the anatomy.

    Args:
        threads: Of each network.

    Raises:
        BadSetting: the extra `ocr` is not installed.

    Source: Liao et al. 2020, "Real-time scene text detection with differentiable binarization" (arXiv:1911.08947).
    """

    def __init__(self, *, threads: int = 1) -> None:
        if find_spec("rapidocr_onnxruntime") is None:
            msg = (
                "Burned-in text is found by the extra `ocr`, which is not installed: pip install 'gradiograph[ocr]'. "
                "Or leave the pixels as they are, which the log then says: --no-clean-pixels."
            )
            raise BadSetting(msg)
        from rapidocr_onnxruntime import RapidOCR

        self._engine: Any = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=threads)
        found = self._engine.text_det.postprocess_op
        found.box_thresh, found.unclip_ratio = _BOX_THRESHOLD, _UNCLIP

    def find(self, image: NDArray[np.uint8]) -> tuple[TextRegion, ...]:
        """The lines of text in an image. One letter alone is none.

        Args:
            image: (H, W) grey or (H, W, 3) colour, 8 bit; see `to_bytes` for others.

        Returns:
            The lines, top to bottom. Regions may overlap.
        """
        colour = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
        boxes = [*self._detect(colour, 1.0), *self._detect(_without_coarse(colour), _FINE)]
        boxes.sort(key=lambda box: (float(box[:, 1].min()), float(box[:, 0].min())))
        return tuple(
            TextRegion(corners=tuple((float(x), float(y)) for x, y in box), text=text, confidence=confidence)
            for box, (text, confidence) in zip(boxes, self._read(colour, boxes), strict=True)
            if _is_text(text, confidence)
        )

    def _detect(self, image: NDArray[np.uint8], scale: float) -> list[NDArray[np.float32]]:
        import cv2

        height, width = image.shape[:2]
        scale = min(scale, _SIDE / max(height, width))
        size = tuple(max(_STEP, round(side * scale / _STEP) * _STEP) for side in (width, height))
        resized = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
        detector = self._engine.text_det
        values = (resized.astype(np.float32) / 255 - 0.5) / 0.5
        scores = detector.infer(values.transpose(2, 0, 1)[None])[0]
        boxes, _ = detector.postprocess_op(scores, (height, width))
        # At the image's rim a box may lose a side to clipping: there is nothing to read in it.
        return [box for box in np.asarray(boxes, np.float32).reshape(-1, 4, 2) if _shorter_side(box) >= _LEAST]

    def _read(self, image: NDArray[np.uint8], boxes: list[NDArray[np.float32]]) -> list[tuple[str, float]]:
        if not boxes:
            return []
        upright, _, _ = self._engine.text_cls(self._engine.get_crop_img_list(image, boxes))
        found, _ = self._engine.text_rec(upright)
        return [(str(text), float(confidence)) for text, confidence, *_ in found]


def to_bytes(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """A frame of any depth, scaled to 8 bit for the finder.

    Args:
        frame: (H, W) or (H, W, 3), integers or floats. Two frames of one image may be scaled differently.

    Returns:
        The same shape in [0, 255]; 0 everywhere where the frame is constant. Values beyond the 0.1 and 99.9 percentiles
        are clipped, so that a few extreme pixels do not take the contrast from the text.
    """
    if frame.dtype == np.uint8:
        return cast("NDArray[np.uint8]", frame)
    values = frame.astype(np.float32)
    values = np.where(np.isfinite(values), values, 0)
    low, high = np.percentile(values, (0.1, 99.9))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    return cast("NDArray[np.uint8]", scaled.astype(np.uint8))


def _is_text(text: str, confidence: float) -> bool:
    letters = sum(letter.isalnum() for letter in text)
    return letters >= _LONG or (letters >= _LETTERS and confidence >= _SURE)


def _shorter_side(box: NDArray[np.float32]) -> float:
    return float(min(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[1] - box[2])))


def _without_coarse(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    values = image.astype(np.float32)
    fine = (values - cv2.GaussianBlur(values, (0, 0), _BLUR)) * _GAIN
    return cast("NDArray[np.uint8]", np.clip(128 + fine, 0, 255).astype(np.uint8))
