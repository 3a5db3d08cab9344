"""The one constructor behind every task of this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream
from gradiograph.core.task import Task
from gradiograph.tasks.losses import SEGMENTATION_LOSSES, SegmentationLoss, cross_entropy
from gradiograph.tasks.low_rank import adapt
from gradiograph.tasks.weights import load_into, load_state

if TYPE_CHECKING:
    from pathlib import Path

Mode = Literal["train", "eval"]
NumClasses = Annotated[int, Field(ge=2)]
LowRankAdapters = Annotated[dict[Literal["lora"], Annotated[int, Field(ge=1)]], Field(min_length=1)]
Trainable = Literal["full", "head"] | LowRankAdapters


def make_task(
    name: str,
    image_shape: tuple[int, int, int],
    seed: int,
    network: Callable[[], nn.Module],
    *,
    num_classes: int,
    mode: Mode,
    trainable: Trainable | Sequence[str],
    weights: Path | None,
    segmentation: SegmentationLoss | None = None,
) -> Task:
    """Build the network, give it its weights and check that it maps images to one logit per class, or one per pixel.

    Args:
        name: The component's name; the initial weights come from the stream ("init", name) of the seed.
        image_shape: (C, H, W).
        seed: The seed of the run.
        network: Called without arguments; its initialisation may use torch's global generator.
        num_classes: K, at least 2.
        mode: The mode of normalisation and dropout layers, for the client and for the attacker's replay.
        trainable: "full": every parameter that requires a gradient. "head": those of the last dense layer.
            {"lora": R}: adapters of rank R beside every dense and convolutional layer, and the last dense layer.
            Or glob patterns of parameter names.
        weights: A file with the model's state dict, None for the initial weights.
        segmentation: The loss of a network that gives logits (B, K, H, W); None is a classifier with cross entropy.

    Raises:
        BadSetting: the network does not run on such images, its output is not (B, K) or (B, K, H, W) or not finite, or
            nothing trains.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    with global_stream(seed, "init", name):
        model = network()
        if weights is not None:
            load_into(model, load_state(weights))
        task = Task(
            name=name,
            model=model,
            loss=SEGMENTATION_LOSSES[segmentation] if segmentation else cross_entropy,
            image_shape=image_shape,
            num_classes=num_classes,
            mode=mode,
            trainable=_trainable_names(name, model, trainable),
            segments=segmentation is not None,
            loss_mixes=segmentation == "batch_dice",
        )
        _check_output(task)
    return task


def describe(error: Exception) -> str:
    """The error's type and first line, without a text that could hold a path.

    >>> describe(ValueError("too small")), describe(OSError("no /home/x/scan.dcm"))
    ('ValueError: too small', 'OSError')
    """
    line = str(error).partition("\n")[0]
    return type(error).__name__ if not line or "/" in line or "\\" in line else f"{type(error).__name__}: {line}"


def _trainable_names(name: str, model: nn.Module, trainable: Trainable | Sequence[str]) -> tuple[str, ...]:
    parameters = dict(model.named_parameters())
    if isinstance(trainable, dict):
        return adapt(model, trainable["lora"])
    if trainable == "full":
        names = tuple(key for key, parameter in parameters.items() if parameter.requires_grad)
    elif trainable == "head":
        dense = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)]
        names = tuple(key for key in parameters if dense and key.rpartition(".")[0] == dense[-1])
    else:
        return _matching(name, tuple(parameters), trainable)
    if not names:
        lacks = "parameter that requires a gradient" if trainable == "full" else "dense layer (torch.nn.Linear)"
        msg = (
            f"task '{name}': trainable = '{trainable}' finds no {lacks} in the model. "
            f"Name the parameters instead, for example trainable = ['{next(iter(parameters), '*')}'] in task 'custom'."
        )
        raise BadSetting(msg)
    return names


def _matching(name: str, parameters: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    unmatched = [pattern for pattern in patterns if not any(fnmatchcase(key, pattern) for key in parameters)]
    if unmatched or not patterns:
        msg = (
            f"task '{name}': the trainable patterns {unmatched or list(patterns)} match no parameter. "
            f"The model's parameters: {', '.join(parameters) or 'none'}."
        )
        raise BadSetting(msg)
    return tuple(key for key in parameters if any(fnmatchcase(key, pattern) for pattern in patterns))


def _check_output(task: Task) -> None:
    # Two images, because BatchNorm in train mode refuses a single value per channel.
    shape = (2, *task.image_shape)
    try:
        with torch.no_grad():
            outputs = task.forward(task.state(), torch.zeros(shape))
    except Exception as error:
        msg = (
            f"task '{task.name}': the model does not run on images of shape {shape}: {describe(error)}. "
            "Change the image size or the number of channels, or the model."
        )
        raise BadSetting(msg) from error
    expected = (2, task.num_classes, *task.target_shape)
    got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if got != expected:
        msg = (
            f"task '{task.name}': for images of shape {shape} the model returns {got}, expected is a tensor of shape "
            f"{expected}. Set num_classes = {got[1]}, or change the model."
            if isinstance(got, tuple) and len(got) == len(expected) and (got[0], *got[2:]) == (2, *task.target_shape)
            else f"task '{task.name}': for images of shape {shape} the model returns {got}, expected is a tensor of "
            f"shape {expected}: one logit per class{' and pixel' if task.segments else ''}. Change the model."
        )
        raise BadSetting(msg)
    if not bool(outputs.isfinite().all()):
        msg = f"task '{task.name}': the model's output is NaN or infinite on black images. Use other weights."
        raise BadSetting(msg)
