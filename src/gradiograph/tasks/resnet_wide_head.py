"""ResNet-18 without normalisation and with a wide head, as the ROG attack uses it."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task

_WIDTHS: Final = (64, 128, 256, 512)
_BLOCKS: Final = 2 * len(_WIDTHS)
_POOLED: Final = 8


@register("task", "resnet_wide_head", paper="Yue et al. 2023, arXiv 2206.04055")
def resnet_wide_head(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """ResNet-18 without normalisation, pooled to 8 x 8 only, so that the head sees 512 x 8 x 8 features.

    The stem is 7 x 7 with stride 2, without max pooling: for images of 128 x 128 pixels the last feature map is 8 x 8
    and the head sees each of its places; smaller images repeat places, larger ones average them. The head has no
    bias. Nothing works in place.

    Without normalisation the initialisation has to keep the activations in range: every convolution has He et al.'s
    normal initialisation by fan-in (projections with gain 1), and the last convolution of each of the 8 blocks has
    variance 1 / (8 fan-in), so that the expected mean square grows at most by (1 + 1/8)^8 < e over the depth. It is not
    zero, as in Fixup (Zhang et al. 2019, arXiv 1901.09321): the other layers would then send no gradient in round 1.

    Args:
        image_shape: (C, H, W).
        seed: The seed of the initial weights.
        num_classes: K.
        mode: Has no effect: no layer depends on it. Kept so that every task states it.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the model does not run on such images.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """

    def network() -> nn.Module:
        widths = (_WIDTHS[0], *_WIDTHS)
        blocks: list[nn.Module] = []
        for stage, (inward, outward) in enumerate(pairwise(widths)):
            blocks += [_Block(inward, outward, stride=1 if stage == 0 else 2), _Block(outward, outward, stride=1)]
        return nn.Sequential(
            _convolution(image_shape[0], _WIDTHS[0], 7, stride=2),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(_POOLED),
            nn.Flatten(),
            nn.Linear(_WIDTHS[-1] * _POOLED**2, num_classes, bias=False),
        )

    return make_task(
        "resnet_wide_head",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, without normalisation."""

    def __init__(self, inward: int, outward: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inward, outward, 3, stride=stride)
        self.second = _convolution(outward, outward, 3, gain=sqrt(1 / _BLOCKS))
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inward == outward
            else _convolution(inward, outward, 1, stride=stride, gain=1.0)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, inward, H, W) -> (B, outward, H / stride, W / stride)."""
        branch = self.second(torch.relu(self.first(features)))
        return torch.relu(self.shortcut(features) + branch)


def _convolution(inward: int, outward: int, size: int, *, stride: int = 1, gain: float = sqrt(2)) -> nn.Conv2d:
    layer = nn.Conv2d(inward, outward, size, stride=stride, padding=size // 2, bias=False)
    nn.init.normal_(layer.weight, std=gain / sqrt(inward * size**2))
    return layer
