"""ResNet-18 with BatchNorm."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task


@register("task", "resnet18", paper="He et al. 2016, arXiv 1512.03385")
def resnet18(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """Torchvision's ResNet-18 with BatchNorm, one logit per class.

    Args:
        image_shape: (C, H, W); the stem takes C channels.
        seed: The seed of the initial weights.
        num_classes: K.
        mode: "train": BatchNorm uses the batch's statistics, and their running means cross the wire as buffers;
            "eval": it uses the running statistics that it holds.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the model does not run on such images.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """

    def network() -> nn.Module:
        from torchvision import models  # here, because it takes seconds to import

        model: nn.Module = models.resnet18(weights=None, num_classes=num_classes)
        if image_shape[0] != 3:
            model.conv1 = nn.Conv2d(image_shape[0], 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        return model

    return make_task(
        "resnet18",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )
