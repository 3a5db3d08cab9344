"""DenseNet-121 of MONAI."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task


@register("task", "densenet121", paper="Huang et al. 2017, arXiv 1608.06993")
def densenet121(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """MONAI's DenseNet-121 for planar images, the usual network for chest films (CheXNet), one logit per class.

    Args:
        image_shape: (C, H, W), H and W at least 32 pixels.
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
        from monai.networks.nets.densenet import DenseNet121  # here, because it takes seconds to import

        model: nn.Module = DenseNet121(spatial_dims=2, in_channels=image_shape[0], out_channels=num_classes)
        return model

    return make_task(
        "densenet121",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )
