"""MONAI's U-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import nn

from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.losses import SegmentationLoss
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task


@register("task", "monai_unet", paper="Kerfoot et al. 2019, doi 10.1007/978-3-030-12029-0_40")
def monai_unet(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    widths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2)] | None = None,
    residual_units: Annotated[int, Field(ge=0)] = 0,
    loss: SegmentationLoss = "dice_cross_entropy",
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable | list[str] = "full",
    weights: Path | None = None,
) -> Task:
    """`monai.networks.nets.UNet`: strided convolutions down, transposed ones up, instance norm, PReLU.

    Args:
        image_shape: (C, H, W), sides that can be halved as often as there are widths less one.
        seed: The seed of the initial weights.
        widths: Channels of each level; [16, 32, 64] by default.
        residual_units: In each level; 0 is one convolution.
        loss: See `unet`.
        num_classes: K, the background included.
        mode: Of dropout layers, of which there are none; instance norm is the same in both.
        trainable: "full", or glob patterns of parameter names; "head" asks for a dense layer.
        weights: A file with the model's state dict.

    Returns:
        The task: images to logits (B, K, H, W).

    Raises:
        BadSetting: the model does not run on such images.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    levels = widths or [16, 32, 64]

    def network() -> nn.Module:
        from monai.networks.nets.unet import UNet  # here, because it takes seconds to import

        model: nn.Module = UNet(
            spatial_dims=2,
            in_channels=image_shape[0],
            out_channels=num_classes,
            channels=levels,
            strides=[2] * (len(levels) - 1),
            num_res_units=residual_units,
        )
        return model

    return make_task(
        "monai_unet",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
        segmentation=loss,
    )
