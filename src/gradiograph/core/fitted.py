"""Files that were fitted to patients' films: arrays, read without running code, and whose films they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradiograph.core.records import pseudonym

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradiograph.core.errors import BadInput


def owners(patients: Iterable[str], key: bytes) -> dict[str, Any]:
    """The arrays that say whose films a file was fitted to: pseudonyms, and the key that they are made with.

    Args:
        patients: Identifiers; none of them is in the arrays.
        key: Random, for this file only.
    """
    names = sorted({pseudonym(key, patient) for patient in patients})
    return {"key": np.frombuffer(key, dtype=np.uint8), "patients": np.array(names, dtype="U12")}


def known_among(arrays: Mapping[str, NDArray[Any]], patients: Iterable[str]) -> tuple[int, int]:
    """How many of these patients a file with `owners` was fitted to, and how many different ones they are."""
    asked = {pseudonym(arrays["key"].tobytes(), patient) for patient in patients}
    return len(asked & set(arrays["patients"].tolist())), len(asked)


def read_arrays(
    path: Path,
    form: str,
    what: str,
    remedy: str,
    fits: Callable[[Mapping[str, NDArray[Any]]], bool],
    error: type[BadInput],
) -> Mapping[str, NDArray[Any]]:
    """The arrays of an npz file whose entry `format` is `form`; never runs code that the file holds.

    Args:
        path: The file.
        form: Its format and version.
        what: What it holds, for the message.
        remedy: The next step, for the message.
        fits: Whether the arrays are those of such a file and fit together; may raise where they are not.
        error: What is raised.

    Raises:
        BadInput: of the type `error`: the file is missing, damaged, of another version, or does not fit.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if str(file["format"]) == form:
                arrays = {name: file[name] for name in file.files}
                if fits(arrays):
                    return arrays
        reason = "is of another version, or its arrays do not fit together"
    except FileNotFoundError:
        reason = "does not exist"
    except OSError:
        reason = "cannot be read"
    except Exception:  # what a damaged or foreign file makes NumPy raise is not documented
        reason = f"is damaged or is not a {what}"
    msg = f"The file of the {what} {reason}. {remedy}"
    raise error(msg)
