"""The pixels of one frame of a DICOM file, decoded, in the units of the modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.filereader import read_partial
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, RLELossless

from gradiograph.data.codestreams import claimed_size
from gradiograph.data.dicom_elements import read_numbers
from gradiograph.data.dicom_header import DicomImage, opened
from gradiograph.data.quiet import quiet
from gradiograph.data.refusals import Refused

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


_END = b"\xff\xd9"
"""Ends a stream of every kind of JPEG."""


def read_values(image: DicomImage, frame: int) -> NDArray[np.float32]:
    """One frame in the units of its modality: rescaled, or through the modality's table.

    Args:
        image: The file.
        frame: From 0.

    Returns:
        (H, W), for CT in Hounsfield units; or (H, W, 3), RGB in [0, 1].

    Raises:
        Refused: the pixels cannot be decoded.
    """
    stored = _decode(image, frame)
    palette = image.header.get("PhotometricInterpretation") == "PALETTE COLOR"
    if stored.ndim == 3:
        bits = 16 if palette and stored.dtype == np.uint16 else int(read_numbers(image.header, "BitsStored")[0])
        white = np.float32(255 if palette and stored.dtype == np.uint8 else 2.0**bits - 1)
        return (stored.astype(np.float32) / white).clip(0, 1)
    with quiet():
        try:
            return rescaled(image, frame, stored)
        except Refused:
            raise
        except Exception:
            msg = "has a table or scale of values that cannot be used. Export it again"
            raise Refused(msg) from None


def _decode(image: DicomImage, frame: int) -> NDArray[Any]:
    with quiet():
        try:
            with opened(image.file) as stream:
                _require_claim(image, frame, stream)
                stream.seek(0)
                stored = pixel_array(stream, index=frame)
            if image.header.get("PhotometricInterpretation") == "PALETTE COLOR":
                stored = apply_color_lut(stored, dcmread(image.file, stop_before_pixels=True))
        except Refused:
            raise
        except Exception as error:
            raise Refused(_why(image, error)) from None
    wanted = (image.rows, image.columns)
    if stored.shape[:2] != wanted or stored.ndim > 3:
        msg = f"decodes to {stored.shape[:2]}, but its header says {wanted}. Export it again"
        raise Refused(msg)
    return stored[..., :3] if stored.ndim == 3 else _used_bits(image, stored)


def _require_claim(image: DicomImage, frame: int, stream: BinaryIO) -> None:
    """Decoders believe the compressed stream: it must not be larger than the header says."""
    syntax = UID(str(image.header.file_meta.TransferSyntaxUID))
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    stream.seek(0)
    read_partial(stream, stop_when=lambda tag, vr, length: int(tag) == 0x7FE00010, specific_tags=[0x00280010])
    stream.seek(12, 1)
    data = get_frame(stream, frame, number_of_frames=image.frames)
    claimed = claimed_size(data)
    if claimed is not None and claimed != (image.rows, image.columns):
        msg = f"has a compressed frame of {claimed}, but its header says {(image.rows, image.columns)}. Export it again"
        raise Refused(msg)
    if claimed is None or not data.rstrip(b"\0\xff").endswith(_END):
        msg = "has a compressed frame without a beginning or an end: it was cut off. Copy or export it again"
        raise Refused(msg)


def _why(image: DicomImage, error: Exception) -> str:
    syntax = UID(str(image.header.file_meta.TransferSyntaxUID))
    if isinstance(error, NotImplementedError) or "missing dependencies" in str(error) or "plugins" in str(error):
        return f"is compressed as {syntax.name}, which no installed decoder reads. Export it uncompressed"
    return "has pixels that cannot be decoded: they are damaged. Copy or export it again"


def _used_bits(image: DicomImage, stored: NDArray[Any]) -> NDArray[Any]:
    """Unused high bits may hold overlays: only the stored bits are values."""
    bits = int(read_numbers(image.header, "BitsStored")[0])
    unused = 8 * stored.dtype.itemsize - bits
    if unused <= 0 or stored.dtype.kind not in "iu":
        return stored
    return (stored << unused) >> unused


def frame_numbers(image: DicomImage, frame: int, group: str, keyword: str) -> tuple[float, ...]:
    """An element's numbers: of the frame, of all frames, or of the file (PS3.3 C.7.6.16)."""
    per_frame = image.header.get("PerFrameFunctionalGroupsSequence")
    shared = image.header.get("SharedFunctionalGroupsSequence")
    places: list[Dataset] = [per_frame[frame]] if per_frame and frame < len(per_frame) else []
    for place in (*places, *(shared or [])[:1]):
        found = place.get(group)
        if found and keyword in found[0]:
            return read_numbers(found[0], keyword)
    return read_numbers(image.header, keyword)


def rescaled(image: DicomImage, frame: int, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored values in the units of the modality: through its table, or by slope and intercept."""
    table = image.header.get("ModalityLUTSequence")
    if table:
        return through_table(table[0], stored)[0]
    slope = frame_numbers(image, frame, "PixelValueTransformationSequence", "RescaleSlope") or (1.0,)
    intercept = frame_numbers(image, frame, "PixelValueTransformationSequence", "RescaleIntercept") or (0.0,)
    return (stored.astype(np.float64) * slope[0] + intercept[0]).astype(np.float32)


def through_table(table: Dataset, stored: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """Stored values through a look-up table (PS3.3 C.11.1.1), and its largest value."""
    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    entries = entries or 2**16
    data = table.LUTData
    kind = "<u2" if table.is_little_endian is not False else ">u2"
    lut = np.frombuffer(data, kind) if isinstance(data, bytes) else np.asarray(data)
    if len(lut) < entries or not 1 <= bits <= 16:
        msg = f"has a table of {len(lut)} values that should have {entries}. Export it again"
        raise Refused(msg)
    index = (stored.astype(np.int64) - first).clip(0, entries - 1)
    return lut[index].astype(np.float32), 2.0**bits - 1
