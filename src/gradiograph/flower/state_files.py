"""Captured rounds on disk: two files that torch reads, for their owner only, whole or not at all."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import torch

from gradiograph.core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradiograph.core.tensors import Tensors

BEFORE, AFTER = "before.pt", "after.pt"


def write_round(folder: Path, before: Tensors, after: Tensors, names: Sequence[str] | None = None) -> None:
    """Write the state before a client's round and after it.

    Args:
        folder: Made if need be.
        before: By name, as the client received it.
        after: As the server received it; the same names.
        names: The model's own names, in order, where the app's arrays have none but numbers.

    Raises:
        BadInput: the number of names is not that of the arrays.
    """
    if names is not None and len(names) != len(before):
        msg = f"{len(names)} names are given for {len(before)} arrays; give list(model.state_dict())."
        raise BadInput(msg)
    for level in (*reversed(folder.parents), folder):  # with parents = True, only the last one gets the mode
        level.mkdir(mode=0o700, exist_ok=True)
    for file, state in ((BEFORE, before), (AFTER, after)):  # the second one makes the pair complete
        own = list(state) if names is None else names
        _write(folder / file, dict(zip(own, state.values(), strict=True)))


def _write(path: Path, state: Tensors) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    temporary = path.with_name(f".tmp-{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
