"""A light network of dilated convolutions, for segmentation under privacy on little hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.losses import SegmentationLoss
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task

_GROUP = 8
_DILATIONS = (1, 2, 3, 4)


@register("task", "dilated_net", paper="Knolle et al. 2021, doi 10.1371/journal.pone.0255397")
def dilated_net(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 64,
    loss: SegmentationLoss = "dice_cross_entropy",
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable | list[str] = "full",
    weights: Path | None = None,
) -> Task:
    """One halving, two residual blocks of dilated 3 x 3 convolutions in place of deeper levels, and back up.

    After the idea of MoNet (few levels, repeated dilation, about 0.4 million parameters), not its layers one by one;
    with GroupNorm, so that no layer mixes the images of a batch. 0.41 million parameters at the default width.

    Args:
        image_shape: (C, H, W), H and W even.
        seed: The seed of the initial weights.
        width: Channels within the blocks, a multiple of 8.
        loss: See `unet`.
        num_classes: K, the background included.
        mode: Has no effect: GroupNorm is the same in both. Kept so that every task states it.
        trainable: "full", or glob patterns of parameter names, such as ["head.*"]; "head" asks for a dense layer.
        weights: A file with the model's state dict.

    Returns:
        The task: images to logits (B, K, H, W).

    Raises:
        BadSetting: the images cannot be halved.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    channels, height, width_of_image = image_shape
    if height % 2 or width_of_image % 2:
        size = f"{height} x {width_of_image}"
        msg = f"task 'dilated_net': images of {size} cannot be halved. Use an even image_size."
        raise BadSetting(msg)
    return make_task(
        "dilated_net",
        image_shape,
        seed,
        lambda: DilatedNet(channels, num_classes, width),
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
        segmentation=loss,
    )


class DilatedNet(nn.Module):
    """Images (B, C, H, W) to logits (B, K, H, W)."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.encoder = _normed(channels, half, 1)
        self.middle = nn.ModuleList([_dilated(half, width), _dilated(width, width), _dilated(width, width)])
        self.decoder = _normed(width + half, half, 1)
        self.head = nn.Conv2d(half, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """A logit for each class and pixel."""
        fine = self.encoder(images)
        features = self.middle[0](F.max_pool2d(fine, 2))
        for block in list(self.middle)[1:]:
            features = features + block(features)
        raised = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
        logits: Tensor = self.head(self.decoder(torch.cat([fine, raised], dim=1)))
        return logits


def _dilated(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(*(_normed(out if place else into, out, rate) for place, rate in enumerate(_DILATIONS)))


def _normed(into: int, out: int, dilation: int) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(max(1, out // _GROUP), out), nn.ReLU())
