"""Files of trained networks that know films: arrays without pickle, a card, and whose films they were trained on."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from gradiograph.core.errors import BadInput
from gradiograph.core.fitted import owners, read_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Network = TypeVar("Network", bound=nn.Module)


def pack_network(
    form: str,
    network: nn.Module,
    image_shape: tuple[int, ...],
    card: Mapping[str, Any],
    patients: Iterable[str],
    key: bytes,
) -> bytes:
    """The file's content.

    Args:
        form: Its format and version.
        network: Whose weights are kept.
        image_shape: (C, H, W) of the films.
        card: What it was trained on, how, and how good it is; as JSON.
        patients: Whose films it was trained on; kept as pseudonyms under the key, which lies beside them.
        key: Random, for this file only.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.array(form),
        image_shape=np.array(image_shape, dtype=np.int64),
        card=np.array(json.dumps(dict(card))),
        **owners(patients, key),
        **{f"weights.{name}": tensor.numpy(force=True) for name, tensor in network.state_dict().items()},
    )
    return buffer.getvalue()


def load_network(
    path: Path,
    form: str,
    what: str,
    image_shape: tuple[int, ...],
    bare: Callable[[Mapping[str, NDArray[Any]]], Network],
) -> tuple[Network, Mapping[str, Any]]:
    """Read what `pack_network` wrote: the network, in eval mode and without gradients, and its card.

    Args:
        path: The file.
        form: Its format and version.
        what: What it is called, by `prior train --kind` too.
        image_shape: (C, H, W) of the images that are attacked.
        bare: The file's arrays -> the network without weights, on the device "meta": first ones would be drawn from
            torch's global generator.

    Raises:
        BadInput: the file is missing, damaged or no such network, or is for images of another shape.
    """
    remedy = f"Write one with `gradiograph prior train FILE --kind {what}`."
    arrays = read_arrays(path, form, what, remedy, lambda found: _is_consistent(found, bare(found)), BadInput)
    shape = tuple(int(side) for side in arrays["image_shape"])
    if shape != image_shape:
        msg = f"The {what} is for images of shape {shape}, the task's have the shape {image_shape}. {remedy}"
        raise BadInput(msg)
    network = bare(arrays)
    weights = {name: torch.from_numpy(arrays[f"weights.{name}"]) for name in network.state_dict()}
    network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(requires_grad=False)
    return network, json.loads(str(arrays["card"]))


def _is_consistent(arrays: Mapping[str, NDArray[Any]], network: nn.Module) -> bool:
    return {"key", "patients", "card"} <= set(arrays) and all(
        arrays[f"weights.{name}"].shape == tuple(tensor.shape) and np.isfinite(arrays[f"weights.{name}"]).all()
        for name, tensor in network.state_dict().items()
    )
