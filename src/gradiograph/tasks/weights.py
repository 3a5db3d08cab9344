"""Files of weights: read safely, fitted to a model by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradiograph.core.errors import WeightsProblem

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.core.tensors import Tensors

_SAVE = "Save it with torch.save(model.state_dict(), FILE)."
_SHOWN = 3


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file that torch.save wrote. Never runs code that the file holds.

    A state dict inside a checkpoint, under the key "state_dict", is unwrapped.

    Args:
        path: A file of tensors by parameter name.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        WeightsProblem: the file is missing, is not a torch file, holds anything but plain data, is not a mapping from
            names to dense tensors, or holds a value that is not finite.
    """
    loaded = _read(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        msg = f"The file of weights holds a {type(loaded).__name__}, not a state dict. {_SAVE}"
        raise WeightsProblem(msg)
    if not loaded:
        msg = f"The file of weights holds no tensor. {_SAVE}"
        raise WeightsProblem(msg)
    for name, value in loaded.items():
        _check_entry(name, value)
    return {name: value.detach() for name, value in loaded.items()}


def load_into(model: nn.Module, state: Tensors) -> None:
    """Give the model the weights of a state dict that has exactly its names and shapes.

    Args:
        model: Changed in place.
        state: All parameters and buffers by name.

    Raises:
        WeightsProblem: see `check_state`.
    """
    check_state(model, state)
    model.load_state_dict(dict(state))


def check_state(model: nn.Module, state: Tensors) -> None:
    """Check that a state dict has exactly the model's names and shapes.

    Args:
        model: Not changed.
        state: All parameters and buffers by name.

    Raises:
        WeightsProblem: a name is missing or unexpected, or a shape differs; the message names the first few.
    """
    own = model.state_dict()
    different = (
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    )
    problems = [
        _first("missing from the file", (name for name in own if name not in state)),
        _first("unknown to the model", (name for name in state if name not in own)),
        _first("of another shape", different),
    ]
    if any(problems):
        msg = (
            f"The weights do not fit the model. {' '.join(filter(None, problems))} "
            "Check that the task's network, num_classes and image size are those that the weights were trained with."
        )
        raise WeightsProblem(msg)


def _read(path: Path) -> Any:  # noqa: ANN401 - the file decides
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on old formats; what matters is raised below
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - the one place
    except FileNotFoundError:
        msg = "The file of weights does not exist. Give the path of a file that torch.save wrote."
    except OSError:
        msg = "The file of weights cannot be read. Give the path of a file that torch.save wrote, with read permission."
    except UnpicklingError:
        msg = (
            "The file of weights is refused: it is damaged, or it holds more than tensors and plain data and so could "
            f"run code. {_SAVE}"
        )
    except Exception:
        msg = f"The file of weights is damaged or is not a torch file. {_SAVE}"
    raise WeightsProblem(msg) from None


def _check_entry(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout is not torch.strided:
        msg = (
            f"The file of weights is not a state dict: the entry {name!r} is a {type(value).__name__}, allowed are "
            f"dense tensors by name. {_SAVE}"
        )
        raise WeightsProblem(msg)
    if value.is_floating_point() and not bool(value.isfinite().all()):
        msg = f"The file of weights holds NaN or infinity in '{name}'. Use weights from before training diverged."
        raise WeightsProblem(msg)


def _first(what: str, items: Iterable[str]) -> str:
    found = list(items)
    if not found:
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{more}."
