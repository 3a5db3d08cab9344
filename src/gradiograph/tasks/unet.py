"""The U-Net with GroupNorm, for segmentation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.losses import SegmentationLoss
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task

Upsampling = Literal["interpolation", "transposed"]
_GROUP = 8


@register("task", "unet", paper="Ronneberger et al. 2015, arXiv 1505.04597")
def unet(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 16,
    depth: Annotated[int, Field(ge=1, le=5)] = 2,
    skip: bool = True,
    upsampling: Upsampling = "interpolation",
    loss: SegmentationLoss = "dice_cross_entropy",
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable | list[str] = "full",
    weights: Path | None = None,
) -> Task:
    """A U-Net: at each level two 3 x 3 convolutions with GroupNorm and ReLU, halved by max pooling, and back up.

    No layer mixes the images of a batch and no statistics cross the wire. The parameters are named `encoder.*`,
    `decoder.*` and `head.*`, so that an attack can be held to some of them by its setting `layers`.

    Args:
        image_shape: (C, H, W), H and W multiples of 2^depth.
        seed: The seed of the initial weights.
        width: Channels of the first level, a multiple of 8; each further one doubles them.
        depth: How often the image is halved.
        skip: Whether the decoder sees the encoder's levels; without, everything passes the lowest one.
        upsampling: "interpolation": bilinear, then a 1 x 1 convolution. "transposed": a learned 2 x 2 convolution.
        loss: "cross_entropy", "dice", their sum, or "batch_dice", which couples the images of a batch.
        num_classes: K, the background included.
        mode: Has no effect: GroupNorm is the same in both. Kept so that every task states it.
        trainable: "full", or glob patterns of parameter names, such as ["head.*"]; "head" asks for a dense layer.
        weights: A file with the model's state dict.

    Returns:
        The task: images to logits (B, K, H, W).

    Raises:
        BadSetting: the images cannot be halved so often.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    channels, height, width_of_image = image_shape
    step = 2**depth
    if height % step or width_of_image % step:
        size = f"{height} x {width_of_image}"
        msg = f"task 'unet': images of {size} cannot be halved {depth} times. Use multiples of {step}, or lower depth."
        raise BadSetting(msg)
    return make_task(
        "unet",
        image_shape,
        seed,
        lambda: UNet(channels, num_classes, [width * 2**level for level in range(depth + 1)], skip, upsampling),
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
        segmentation=loss,
    )


class UNet(nn.Module):
    """Images (B, C, H, W) to logits (B, K, H, W)."""

    def __init__(self, channels: int, num_classes: int, widths: list[int], skip: bool, upsampling: Upsampling) -> None:
        super().__init__()
        self.skip = skip
        self.encoder = nn.ModuleList(
            _twice(into, out) for into, out in zip([channels, *widths[:-1]], widths, strict=True)
        )
        turned = widths[::-1]
        self.raised = nn.ModuleList(
            nn.ConvTranspose2d(into, out, 2, stride=2) if upsampling == "transposed" else _Interpolated(into, out)
            for into, out in pairwise(turned)
        )
        self.decoder = nn.ModuleList(_twice(out * (1 + skip), out) for out in turned[1:])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Down, up, and a logit for each class and pixel."""
        levels = [self.encoder[0](images)]
        for block in list(self.encoder)[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        features = levels.pop()
        for raised, block in zip(self.raised, self.decoder, strict=True):
            above = levels.pop()
            features = raised(features)
            features = block(torch.cat([above, features], dim=1) if self.skip else features)
        logits: Tensor = self.head(features)
        return logits


class _Interpolated(nn.Module):
    """Twice as large by bilinear interpolation, then a 1 x 1 convolution."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(into, out, 1)

    def forward(self, features: Tensor) -> Tensor:
        raised: Tensor = F.interpolate(self.project(features), scale_factor=2.0, mode="bilinear", align_corners=False)
        return raised


def _twice(into: int, out: int) -> nn.Sequential:
    layers = [
        layer
        for channels in (into, out)
        for layer in (nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.GroupNorm(out // _GROUP, out), nn.ReLU())
    ]
    return nn.Sequential(*layers)
