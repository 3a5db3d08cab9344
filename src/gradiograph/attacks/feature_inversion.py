"""From a layer's inputs back to the image: search the film that has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, pi
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from gradiograph.attacks.priors import total_variation
from gradiograph.core.factored import DenseCalls
from gradiograph.core.task import copy_buffers

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.eigen import EigenPrior
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

PYRAMID = (32, 8, 2, 1)
"""How much smaller than the image each level of the search is."""
LATENT_RATE = 4.0
"""The learning rate of the whitened latent in units of the pixels'."""
FLOOR = 0.003
"""The last step's learning rate as a share of the first's."""
SMALLEST_RESIDUAL = 1e-3
"""Of a prior whose components leave nothing: a third of a grey level of 8 bits."""

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
    """Adam on a pyramid of grey images: relative squared error of the features, plus priors.

    On a coarse level a step moves a whole region, which single pixels do slowly.

    Args:
        steps: Of Adam.
        learning_rate: Of the first step, in units of the pixels; it falls to `FLOOR` of that along half a cosine.
        tv: Weight of the total variation.
        memory: Of Adam for the squared slopes. These fall by orders of magnitude on the way: at 3 x 128 x 128, 200
            steps end at 70 dB with 0.9 and at 34 dB with Adam's usual 0.999.
        prior: Principal components that are searched together with the pyramid, from their mean; None for the pyramid
            alone. With a precision of the features it is also a Gaussian density: N(0, 1) for the whitened latent,
            the components' residual for each pixel of the pyramid.
    """

    steps: int
    learning_rate: float = 0.06
    tv: float = 0.0
    memory: float = 0.9
    prior: EigenPrior | None = None

    def __call__(
        self,
        features: Features,
        wanted: Wanted,
        image_shape: tuple[int, ...],
        start: Tensor,
        progress: Callable[[float], None],
        precision: Tensor | None = None,
    ) -> tuple[Tensor, list[float]]:
        """Search the images.

        Args:
            features: See `layer_inputs`.
            wanted: The model's outputs (B, K) at the images found so far -> features (B, D) to reach.
            image_shape: (C, H, W).
            start: (B, 1, H, W), where the search starts; with a prior only its mean counts.
            progress: Called with the share of the work done.
            precision: (B, B), the inverse covariance of one feature's errors over the batch; None where every image's
                features are known equally well in proportion, and exactly.

        Returns:
            Images (B, C, H, W) in [0, 1], and the objective after each step.
        """
        channels, *sides = image_shape
        small = [[ceil(side / factor) for side in sides] for factor in PYRAMID]
        levels = [torch.zeros(len(start), 1, *size).to(start).requires_grad_() for size in small]
        groups: list[dict[str, Any]] = [{"params": levels, "lr": self.learning_rate}]
        latent = None
        if self.prior is not None:
            latent = torch.zeros(len(start), len(self.prior.std)).to(start).requires_grad_()
            groups.append({"params": [latent], "lr": LATENT_RATE * self.learning_rate})

        def images() -> tuple[Tensor, Tensor]:
            rise = torch.stack([F.interpolate(level, size=sides, mode="bilinear") for level in levels]).sum(dim=0)
            base = start if latent is None or self.prior is None else self.prior.images(latent)
            return (base + rise).expand(-1, channels, *sides), rise

        def objective(now: Tensor, rise: Tensor) -> Tensor:
            found, outputs = features(now)
            target = wanted(outputs.detach())
            error = found - target
            size = target.square().sum(dim=1)
            if precision is None:
                return (error.square().sum(dim=1) / size).mean() + self.tv * total_variation(now)
            total = (precision.diagonal() * size).sum()
            value = ((error @ error.T) * precision).sum() / total + self.tv * total_variation(now)
            if latent is None or self.prior is None:
                return value
            density = latent.square().sum() + (rise / max(self.prior.residual, SMALLEST_RESIDUAL)).square().sum()
            return value + density / total

        adam = torch.optim.Adam(groups, betas=(0.9, self.memory))
        rates = [group["lr"] for group in adam.param_groups]
        variables = [*levels, *([] if latent is None else [latent])]
        values: list[float] = []
        for step in range(self.steps):
            for group, rate in zip(adam.param_groups, rates, strict=True):
                group["lr"] = rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(pi * step / self.steps)))
            value = objective(*images())
            for variable, gradient in zip(variables, torch.autograd.grad(value, variables), strict=True):
                variable.grad = gradient
            adam.step()
            values.append(float(value.detach()))
            progress((step + 1) / self.steps)
        return images()[0].detach().clamp(0, 1).contiguous(), values
