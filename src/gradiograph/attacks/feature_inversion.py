"""From a layer's inputs back to the image: search the film that has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from gradiograph.attacks.optimisers import decay
from gradiograph.attacks.priors import total_variation
from gradiograph.core.factored import DenseCalls
from gradiograph.core.task import copy_buffers

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

PYRAMID = (32, 8, 2, 1)
"""How much smaller than the image each level of the search is."""

Features = Callable[["Tensor"], tuple["Tensor", "Tensor"]]
Wanted = Callable[["Tensor"], "Tensor"]


def layer_inputs(task: Task, state: Tensors, weight: str) -> Features:
    """Images (B, C, *spatial) -> inputs (B, D) of the dense layer with this weight, and the model's outputs (B, K)."""

    def features(images: Tensor) -> tuple[Tensor, Tensor]:
        now = {name: tensor.detach() for name, tensor in state.items()} | copy_buffers(task, state)
        with DenseCalls({weight: now[weight]}, {}) as calls:
            outputs = task.forward(now, images)
        return calls.inputs[weight][0], outputs

    return features


@dataclass(frozen=True, kw_only=True)
class FeatureInversion:
    """Adam on a pyramid of grey images: relative squared error of the features, plus total variation.

    On a coarse level a step moves a whole region, which single pixels do slowly.

    Args:
        steps: Of Adam.
        learning_rate: Of the first step, in units of the pixels; it falls to a tenth along half a cosine.
        tv: Weight of the total variation.
    """

    steps: int
    learning_rate: float
    tv: float

    def __call__(
        self,
        features: Features,
        wanted: Wanted,
        image_shape: tuple[int, ...],
        start: Tensor,
        progress: Callable[[float], None],
    ) -> tuple[Tensor, list[float]]:
        """Search the images.

        Args:
            features: See `layer_inputs`.
            wanted: The model's outputs (B, K) at the images found so far -> features (B, D) to reach.
            image_shape: (C, H, W).
            start: (B, 1, H, W), where the search starts.
            progress: Called with the share of the work done.

        Returns:
            Images (B, C, H, W) in [0, 1], and the objective after each step.
        """
        channels, *sides = image_shape
        small = [[ceil(side / factor) for side in sides] for factor in PYRAMID]
        levels = [torch.zeros(len(start), 1, *size).to(start).requires_grad_() for size in small]

        def images() -> Tensor:
            rise = torch.stack([F.interpolate(level, size=sides, mode="bilinear") for level in levels]).sum(dim=0)
            return (start + rise).expand(-1, channels, *sides)

        adam = torch.optim.Adam(levels, lr=self.learning_rate)
        values: list[float] = []
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = self.learning_rate * decay("cosine", step / self.steps)
            now = images()
            found, outputs = features(now)
            target = wanted(outputs.detach())
            misfit = ((found - target).square().sum(dim=1) / target.square().sum(dim=1)).mean()
            value = misfit + self.tv * total_variation(now)
            for level, gradient in zip(levels, torch.autograd.grad(value, levels), strict=True):
                level.grad = gradient
            adam.step()
            values.append(float(value.detach()))
            progress((step + 1) / self.steps)
        return images().detach().clamp(0, 1).contiguous(), values
