"""An update on the wire: exactly the values that are sent, in as few bytes as they allow.

The receiver knows the names, the shapes and the types: they are those of the state that it sent. A tensor of float32
goes in the shortest of these forms, others as they are. Its values: as they are, or, behind a quantiser, as whole
multiples of a step, each in as many bits as there are different ones. Where most are zero: the others and their places,
as a bit for every value or as an index for each.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from gradiograph.core.defence import Encoding
from gradiograph.core.errors import BadInput
from gradiograph.flower.bits import num_bytes, pack, unpack, width
from gradiograph.flower.levels import Levels, find_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from gradiograph.core.defence import Defence
    from gradiograph.core.tensors import Tensors

_ALL, _BITMAP, _INDICES = range(3)
_HEADER = struct.Struct("<BBI")
"""How the places are given, the bits of a value (`_RAW`: as it is), and how many values are sent."""
_SCALE = struct.Struct("<iII")
"""The lowest level, the distance between levels, and how many values share a step."""
_RAW = 255


def encode(tensors: Tensors, defence: Defence) -> bytes:
    """The bytes that `decode` reads.

    Args:
        tensors: What the defence sends, by name.
        defence: Whose output they are; it tells which scale values may have, and the values themselves are checked.
    """
    told = defence.encode(tensors, Encoding(num_values=sum(tensor.numel() for tensor in tensors.values())))
    return b"".join(_encode(tensor, told) for tensor in tensors.values())


def decode(content: bytes, like: Tensors) -> dict[str, Tensor]:
    """The values that `encode` was given, bit by bit (a negative zero becomes zero).

    Args:
        content: The bytes.
        like: Tensors of the same names, shapes and types, in the same order.

    Raises:
        BadInput: the bytes are not those of such tensors.
    """
    reader, found = _Reader(content), {}
    try:
        for name, tensor in like.items():
            found[name] = _decode(reader, tensor)
        reader.end()
    except (ValueError, ArithmeticError):
        msg = "An encoded update does not fit the model: server and client must use the same model and encoding."
        raise BadInput(msg) from None
    return found


def _encode(tensor: Tensor, told: Encoding) -> bytes:
    flat = tensor.detach().cpu().reshape(-1).numpy()
    if flat.dtype != np.float32 or not np.isfinite(flat).all():
        return _HEADER.pack(_ALL, _RAW, len(flat)) + flat.tobytes()
    block = min(told.block or len(flat), len(flat)) or 1
    found = find_levels(flat, block, 2 ** max(1, told.value_bits - 1)) if told.value_bits < 32 else None
    sent = flat != 0
    forms = [_form(flat, found, block, np.ones_like(sent), _ALL)]
    if not sent.all():
        forms += [_form(flat, found, block, sent, places) for places in (_BITMAP, _INDICES)]
    return min(forms, key=len)


def _form(flat: NDArray[Any], found: Levels | None, block: int, sent: NDArray[Any], places: int) -> bytes:
    where = {_ALL: b"", _BITMAP: np.packbits(sent, bitorder="little").tobytes(), _INDICES: b""}[places]
    if places == _INDICES:
        where = pack(np.flatnonzero(sent), width(len(flat)))
    if found is None:
        values: bytes = flat[sent].tobytes()
        return _HEADER.pack(places, _RAW, int(sent.sum())) + where + values
    levels = found.levels[sent].astype(np.int64)
    lowest = int(levels.min()) if len(levels) else 0
    distance = int(np.gcd.reduce(levels - lowest)) or 1
    symbols = (levels - lowest) // distance
    bits = width(int(symbols.max(initial=0)) + 1)
    head = _HEADER.pack(places, bits, len(levels)) + _SCALE.pack(lowest, distance, block)
    steps: bytes = found.steps.tobytes()
    return head + steps + where + pack(symbols, bits)


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, count: int) -> bytes:
        part = self._content[self._at : self._at + count]
        if count < 0 or len(part) < count:
            raise ValueError
        self._at += count
        return part

    def end(self) -> None:
        if self._at != len(self._content):
            raise ValueError


class _Head(NamedTuple):
    places: int
    bits: int
    sent: int


def _decode(reader: _Reader, like: Tensor) -> Tensor:
    head = _Head(*_HEADER.unpack(reader.take(_HEADER.size)))
    size = like.numel()
    if head.sent > size:
        raise ValueError
    if head.bits == _RAW:
        where = _read_places(reader, head, size)
        kind = like.detach().cpu().numpy().dtype
        values = np.frombuffer(reader.take(head.sent * kind.itemsize), kind)
        flat = np.zeros(size, kind)
        flat[where] = values
        return torch.from_numpy(flat.reshape(like.shape))
    lowest, distance, block = _SCALE.unpack(reader.take(_SCALE.size))
    steps = np.frombuffer(reader.take(4 * -(-size // block)), np.float32)
    where = _read_places(reader, head, size)
    levels = np.zeros(size, np.int32)
    symbols = unpack(reader.take(num_bytes(head.sent, head.bits)), head.sent, head.bits)
    levels[where] = lowest + distance * symbols
    return torch.from_numpy(Levels(levels, steps).values(block).reshape(like.shape))


def _read_places(reader: _Reader, head: _Head, size: int) -> NDArray[Any]:
    """Where the values that were sent belong: a mask or indices, as many as the head says."""
    if head.places == _INDICES:
        where = unpack(reader.take(num_bytes(head.sent, width(size))), head.sent, width(size))
        if head.sent and where.max() >= size:
            raise ValueError
        return where
    if head.places == _BITMAP:
        mask = np.unpackbits(np.frombuffer(reader.take(num_bytes(size, 1)), np.uint8), count=size, bitorder="little")
    else:
        mask = np.ones(size, np.uint8)
    if int(mask.sum()) != head.sent:
        raise ValueError
    return mask.astype(bool)
