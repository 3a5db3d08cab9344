"""ResNet-18 with GroupNorm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import nn

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task

_WIDTH = 64


@register("task", "resnet18_groupnorm", paper="Wu and He 2018, arXiv 1803.08494")
def resnet18_groupnorm(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    groups: Annotated[int, Field(ge=2)] = 32,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """Torchvision's ResNet-18 with GroupNorm for BatchNorm: no statistics cross the wire, no image sees another.

    Nothing works in place, so that gradients per example can be taken.

    Args:
        image_shape: (C, H, W); the stem takes C channels.
        seed: The seed of the initial weights.
        groups: Groups of channels in each normalisation layer, a divisor of 64, at least 2.
        num_classes: K.
        mode: Has no effect: GroupNorm is the same in both. Kept so that every task states it.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the groups do not divide the channels, or the model does not run on such images.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    if _WIDTH % groups:
        allowed = ", ".join(str(n) for n in range(2, _WIDTH + 1) if _WIDTH % n == 0)
        msg = f"task 'resnet18_groupnorm': groups = {groups} does not divide {_WIDTH} channels. Allowed: {allowed}."
        raise BadSetting(msg)

    def network() -> nn.Module:
        from torchvision.models.resnet import ResNet  # here, because it takes seconds to import

        from gradiograph.tasks.residual_block import ResidualBlock

        model: nn.Module = ResNet(
            ResidualBlock,
            [2, 2, 2, 2],
            num_classes=num_classes,
            norm_layer=lambda channels: nn.GroupNorm(groups, channels),
        )
        if image_shape[0] != 3:
            model.conv1 = nn.Conv2d(image_shape[0], _WIDTH, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        return model

    return make_task(
        "resnet18_groupnorm",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )
