"""A training as bytes and back, exact to the last bit. Arrays and JSON only: reading one runs no code."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.core.errors import LogProblem
from gradiograph.core.rounds import RoundRecord
from gradiograph.federation.training import Training

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.federation.federation import Federation

VERSION = 1


def pack(training: Training) -> bytes:
    """All of a training, as an npz archive of arrays without pickles. Holds weights: keep it from others."""
    arrays: dict[str, Tensor] = {f"state/{name}": tensor for name, tensor in training.state.items()}
    for quantity, tensors in training.memory.items():
        arrays |= {f"memory/{quantity}/{name}": tensor for name, tensor in tensors.items()}
    for number, tensors in training.kept.items():
        arrays |= {f"kept/{number}/{name}": tensor for name, tensor in tensors.items()}
    about = {"version": VERSION, "history": [asdict(record) for record in training.history]}
    buffer = io.BytesIO()
    values: dict[str, Any] = {name: tensor.numpy() for name, tensor in arrays.items()}
    np.savez(buffer, about=np.array(json.dumps(about)), **values)
    return buffer.getvalue()


def unpack(content: bytes, federation: Federation) -> Training:
    """The training that `pack` wrote.

    Args:
        content: The bytes.
        federation: What is trained; the names and shapes must be its own.

    Raises:
        LogProblem: the bytes are no checkpoint, one of another version, or one of another model.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "about"}
    except Exception:  # zip, numpy and JSON raise what they like on damaged bytes
        msg = "The checkpoint is damaged or is none; remove it and train again."
        raise LogProblem(msg) from None
    if about["version"] != VERSION:
        msg = f"The checkpoint has version {about['version']}; this Gradiograph reads {VERSION}. Train again."
        raise LogProblem(msg)
    state = _under("state/", arrays)
    if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in federation.task.state().items()}:
        msg = "The checkpoint holds another model than the one to be trained; start a new run."
        raise LogProblem(msg)
    return Training(
        state=state,
        memory={part: _under(f"memory/{part}/", arrays) for part in _parts("memory", arrays)},
        history=tuple(RoundRecord.read(entry) for entry in about["history"]),
        kept={int(part): _under(f"kept/{part}/", arrays) for part in _parts("kept", arrays)},
    )


def _under(prefix: str, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}


def _parts(kind: str, arrays: dict[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(name.split("/")[1] for name in arrays if name.startswith(f"{kind}/")))
