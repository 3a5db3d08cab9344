"""The user's own model, by import path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from gradiograph.core.errors import BadSetting, nearest
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.losses import SegmentationLoss
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, describe, make_task


@register("task", "custom")
def custom(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    entry: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")],
    arguments: dict[str, Any] | None = None,
    search_path: Path | None = None,
    num_classes: NumClasses = 2,
    segmentation: SegmentationLoss | None = None,
    mode: Mode = "train",
    trainable: Trainable | list[str] = "full",
    weights: Path | None = None,
) -> Task:
    """The user's own model: the function at `entry` is imported and called, and returns a torch.nn.Module.

    The function runs with the user's rights, like any Python code that the user imports. Its model takes images
    (B, C, H, W) in [0, 1] and returns logits (B, K), or (B, K, H, W) where it segments; every other scaling
    belongs into the model.

    Args:
        image_shape: (C, H, W).
        seed: The seed of torch's global generator while the function runs, so the initial weights repeat.
        entry: "module:function"; the module may be dotted.
        arguments: Keyword arguments of the function.
        search_path: The folder that holds the module; the working directory by default.
        num_classes: K, which the model's output must have.
        segmentation: The loss of a model that segments, see `unet`; none is a classifier.
        mode: The mode of BatchNorm and dropout layers, for the client and for the attacker's replay.
        trainable: "full": every parameter that requires a gradient. "head": those of the last torch.nn.Linear.
            Or glob patterns of parameter names, such as ["classifier.*"].
        weights: A file with the model's state dict.

    Returns:
        The task; a classifier has the cross entropy as its loss.

    Raises:
        BadSetting: the entry cannot be imported or called, is not a torch.nn.Module, does not map such images to
            (B, K), or a pattern matches no parameter.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """

    def network() -> nn.Module:
        with _importable(search_path or Path.cwd()):
            model = _call(entry, _find(entry), arguments or {})
        if not isinstance(model, nn.Module):
            msg = f"task 'custom': '{entry}' returns a {type(model).__name__}; allowed is a torch.nn.Module."
            raise BadSetting(msg)
        _check_names(entry, model)
        return model

    return make_task(
        "custom",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
        segmentation=segmentation,
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _find(entry: str) -> Callable[..., object]:
    module_name, _, attribute = entry.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            msg = f"task 'custom': the module of '{entry}' imports '{error.name}', which is not installed. Install it."
            raise BadSetting(msg) from error
        msg = (
            f"task 'custom': there is no module '{error.name}' for '{entry}'. Give the folder that holds it as "
            "`search_path`, or start in that folder."
        )
        raise BadSetting(msg) from None
    except Exception as error:
        msg = (
            f"task 'custom': importing the module of '{entry}' fails: {describe(error)}. "
            "Import it in Python to see where."
        )
        raise BadSetting(msg) from error
    found: object = getattr(module, attribute, None)
    if not callable(found):
        functions: Sequence[str] = [
            key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
        ]
        kind = "is missing" if found is None else f"is a {type(found).__name__}, not a function"
        msg = f"task 'custom': '{attribute}' of '{entry}' {kind}. {nearest(attribute, functions)}"
        raise BadSetting(msg)
    return found


def _call(entry: str, function: Callable[..., object], arguments: dict[str, Any]) -> object:
    try:
        return function(**arguments)
    except Exception as error:
        msg = (
            f"task 'custom': '{entry}' fails with arguments = {sorted(arguments)}: {describe(error)}. "
            "Call it in Python to see where."
        )
        raise BadSetting(msg) from error


def _check_names(entry: str, model: nn.Module) -> None:
    """Refuse tensors that a round could not replace by name: of two names, or left out of the state dict."""
    once = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    state = model.state_dict()
    for problem, names, remedy in (
        ("parameters or buffers of a second name", [name for name in state if name not in once], "Untie them."),
        ("buffers outside its state dict", sorted(once - set(state)), "Register them with persistent=True."),
    ):
        if names:
            msg = f"task 'custom': the model of '{entry}' has {problem}: {', '.join(names[:3])}. {remedy}"
            raise BadSetting(msg)
