"""LeNet as the ROG attack uses it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.task import Task
from gradiograph.tasks.make_task import Mode, NumClasses, Trainable, make_task


@register("task", "lenet", paper="Yue et al. 2023, arXiv 2206.04055")
def lenet(
    image_shape: tuple[int, int, int],
    seed: int,
    *,
    num_classes: NumClasses = 2,
    mode: Mode = "train",
    trainable: Trainable = "full",
    weights: Path | None = None,
) -> Task:
    """A wide LeNet: two 5 x 5 convolutions (32, 64), each with ReLU and 2 x 2 max pooling, then two dense layers (512).

    The dense layers have no bias: with one, the input of the first dense layer could be solved for, which is another
    attack. At 3 x 128 x 128 the first dense layer holds 65536 x 512 = 33.6 million parameters.

    Args:
        image_shape: (C, H, W), H and W at least 4 pixels.
        seed: The seed of the initial weights.
        num_classes: K.
        mode: Has no effect: no layer depends on it. Kept so that every task states it.
        trainable: "full", "head" (the last dense layer), or { lora = R }: low-rank adapters, see `low_rank.adapt`.
        weights: A file with the model's state dict.

    Returns:
        The task, with the cross entropy as its loss.

    Raises:
        BadSetting: the images are too small.
        WeightsProblem: the file of weights is unsafe or does not fit.
    """
    channels, height, width = image_shape
    if min(height, width) < 4:
        msg = f"task 'lenet': the images are {height} x {width} pixels; at least 4 x 4 are needed. Enlarge image_size."
        raise BadSetting(msg)

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), 512, bias=False),
            nn.ReLU(),
            nn.Linear(512, num_classes, bias=False),
        )

    return make_task(
        "lenet",
        image_shape,
        seed,
        network,
        num_classes=num_classes,
        mode=mode,
        trainable=trainable,
        weights=weights,
    )
