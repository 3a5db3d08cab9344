"""A small convolutional network, for films of 64 x 64 and federations that train on few cores."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task

_GROUP = 8


@register("task", "small_cnn")
def small_cnn(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 16,
    norm: Literal["group", "batch"] = "group",
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """Four 3 x 3 convolutions, normalised, with ReLU, each halving the image, their mean over places, a dense layer.

    98 thousand parameters at the default width, whatever the image's size. With GroupNorm no layer mixes the images of
    a batch, so that it trains under protections on each example, and no statistics cross the wire.

    Args:
        image_shape: (C, H, W), H and W at least 16 pixels.
        seed: The seed of the initial weights.
        width: Channels after the first convolution, a multiple of 8; each further one doubles them.
        norm: "group" (groups of eight channels) or "batch".
        num_classes: K.
        mode: Of BatchNorm: "train" takes the batch's statistics, "eval" the running ones. GroupNorm knows no mode.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the images are too small.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    channels, height, width_of_image = image_shape
    if min(height, width_of_image) < 16:
        size = f"{height} x {width_of_image}"
        msg = f"task 'small_cnn': the images are {size} pixels; at least 16 x 16 are needed. Enlarge image_size."
        raise BadSetting(msg)
    widths = [channels, *(width * 2**depth for depth in range(4))]

    def network() -> nn.Module:
        blocks = [
            layer
            for into, out in pairwise(widths)
            for layer in (
                nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(out // _GROUP, out) if norm == "group" else nn.BatchNorm2d(out),
                nn.ReLU(),
            )
        ]
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes))

    return make_task(
        "small_cnn",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )
