"""Files that were fitted to patients' films: arrays, read without running code, and whose films they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradiograph.core.errors import BadInput
from gradiograph.core.records import pseudonym

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


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


def require_disjoint(path: Path, patients: Iterable[str]) -> None:
    """Refuse a prior of any kind that was fitted to films of any of these patients, or that does not say to whose.

    Args:
        path: The prior's file.
        patients: Identifiers of the victims' patients, written as in the source that the prior was fitted to.

    Raises:
        BadInput: it was, it does not, or the file is no prior; no patient is named.
    """
    train = "Write one with `gradiograph prior train FILE`."
    arrays = read_arrays(path, None, "prior", train, lambda found: {"key", "patients"} <= set(found), BadInput)
    if not len(arrays["patients"]):
        msg = f"The prior does not say whose films it was fitted to, so victims may be among them. {train}"
        raise BadInput(msg)
    shared, asked = known_among(arrays, patients)
    if shared:
        msg = (
            f"The prior was fitted to films of {shared} of the {asked} patients that are attacked: "
            "the attacker would own what it attacks. Fit one to others with `gradiograph prior train FILE`."
        )
        raise BadInput(msg)


def read_arrays(
    path: Path,
    form: str | None,
    what: str,
    remedy: str,
    fits: Callable[[Mapping[str, NDArray[Any]]], bool],
    error: type[BadInput],
) -> Mapping[str, NDArray[Any]]:
    """The arrays of an npz file whose entry `format` is `form`; never runs code that the file holds.

    Args:
        path: The file.
        form: Its format and version; None takes any.
        what: What it holds, for the message.
        remedy: The next step, for the message.
        fits: Whether the arrays are those of such a file and fit together; may raise where they are not.
        error: What is raised.

    Raises:
        BadInput: of the type `error`: the file is missing, damaged, of another version, or does not fit.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if form in (None, str(file["format"])):
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
