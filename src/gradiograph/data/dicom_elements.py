"""Elements of a DICOM header, read with suspicion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradiograph.data.refusals import Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def read_numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """The values of an element as numbers; none where it is absent or empty.

    Raises:
        Refused: it holds something else.
    """
    try:
        value: Any = header.get(keyword)
        if value is None or value == "":
            return ()
        several = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
        return tuple(float(one) for one in (value if several else (value,)))
    except Exception:
        msg = f"has a {keyword} that is not a number. Mend it or take the file out"
        raise Refused(msg) from None


def read_whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    """The first value of an element, a whole number of at least 1; the default where it is absent.

    Raises:
        Refused: it is none, or is absent without a default.
    """
    found = read_numbers(header, keyword)
    number = found[0] if found else default
    if number is None or number != int(number) or number < 1:
        msg = f"has no usable {keyword}. Export it again"
        raise Refused(msg)
    return int(number)
