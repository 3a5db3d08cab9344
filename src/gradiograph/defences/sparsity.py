"""How many values a sparsifier keeps."""

from __future__ import annotations

from fractions import Fraction
from math import ceil


def num_kept(sparsity: float, num_values: int) -> int:
    """ceil((1 - sparsity) * num_values), at least 1, in exact arithmetic on the decimal that the user wrote.

    >>> num_kept(0.95, 100), num_kept(0.5, 3), num_kept(0.999, 10)
    (5, 2, 1)
    """
    return max(1, ceil((1 - Fraction(str(sparsity))) * num_values))
