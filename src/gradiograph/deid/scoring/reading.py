"""Reading what is left of burned-in text, with our own call of the OCR."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gradiograph.core.errors import DataProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


@lru_cache(maxsize=1)
def reader() -> Callable[[NDArray[np.uint8]], str]:
    """A function that reads the text of a grey image (rows, columns).

    Raises:
        DataProblem: the extra `ocr` is not installed.
    """
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        msg = "Reading burned-in text needs the extra `ocr`: pip install 'gradiograph[ocr]'."
        raise DataProblem(msg) from None
    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def read(image: NDArray[np.uint8]) -> str:
        found, _ = engine(image)
        return " ".join(str(text) for _, text, _ in found or ())

    return read
