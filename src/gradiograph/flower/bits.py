"""Whole numbers of a few bits each, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def width(symbols: int) -> int:
    """Bits that tell so many symbols apart.

    >>> width(1), width(2), width(33)
    (0, 1, 6)
    """
    return (symbols - 1).bit_length()


def num_bytes(count: int, bits: int) -> int:
    """Bytes that `count` numbers of this width take."""
    return (count * bits + 7) // 8


def pack(numbers: NDArray[Any], bits: int) -> bytes:
    """The lowest `bits` bits of each number, one after the other, filled up to a whole byte.

    >>> pack(np.array([1, 2, 3]), 2).hex()
    '39'
    """
    places = np.arange(bits, dtype=np.uint32)
    return np.packbits((numbers.astype(np.uint32)[:, None] >> places) & 1, bitorder="little").tobytes()


def unpack(content: bytes, count: int, bits: int) -> NDArray[np.int64]:
    """The numbers that `pack` wrote, as int64 (count,)."""
    flat = np.unpackbits(np.frombuffer(content, np.uint8), count=count * bits, bitorder="little")
    powers = np.left_shift(1, np.arange(bits, dtype=np.int64))
    return flat.reshape(count, bits).astype(np.int64) @ powers
