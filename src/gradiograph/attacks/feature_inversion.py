"""From a layer's inputs back to the image: search the film that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def inputs_of(features: Features, blocks: Iterable[Tensor]) -> Tensor:
    """The layer's inputs (N, D) for all images of these blocks, without a graph."""
    with torch.no_grad():
        return torch.cat([features(block)[0] for block in blocks])


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
            precision: (B, 1) or (B, D), the inverse variance of the features' errors; None where every image's features
                are known equally well in proportion, and exactly.

        Returns:
            Images (B, C, H, W) in [0, 1], and the objective after each step.
        """
        film = _Film(start, image_shape, self.prior)

        def objective() -> Tensor:
            now = film.images()
            found, outputs = features(now)
            target = wanted(outputs.detach())
            error, size = found - target, target.square().sum(dim=1)
            rough = self.tv * total_variation(now) if self.tv else now.new_zeros(())
            if precision is None:
                return (error.square().sum(dim=1) / size).mean() + rough
            total = (precision * target.square()).sum()
            return ((precision * error.square()).sum() + film.surprise()) / total + rough

        groups: list[dict[str, Any]] = [{"params": film.levels, "lr": self.learning_rate}]
        if film.latent is not None:
            groups.append({"params": [film.latent], "lr": LATENT_RATE * self.learning_rate})
        adam = torch.optim.Adam(groups, betas=(0.9, self.memory))
        rates = [group["lr"] for group in adam.param_groups]
        variables = [variable for group in groups for variable in group["params"]]
        values: list[float] = []
        for step in range(self.steps):
            for group, rate in zip(adam.param_groups, rates, strict=True):
                group["lr"] = rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(pi * step / self.steps)))
            value = objective()
            for variable, gradient in zip(variables, torch.autograd.grad(value, variables), strict=True):
                variable.grad = gradient
            adam.step()
            values.append(float(value.detach()))
            progress((step + 1) / self.steps)
        return film.images().detach().clamp(0, 1).contiguous(), values


class _Film:
    """Grey images as principal components, where there is a prior, plus a pyramid."""

    def __init__(self, start: Tensor, image_shape: tuple[int, ...], prior: EigenPrior | None) -> None:
        self.channels, *self.sides = image_shape
        self.start, self.prior = start, prior
        small = [[ceil(side / factor) for side in self.sides] for factor in PYRAMID]
        self.levels = [torch.zeros(len(start), 1, *size).to(start).requires_grad_() for size in small]
        self.latent = None if prior is None else torch.zeros(len(start), len(prior.std)).to(start).requires_grad_()

    def images(self) -> Tensor:
        base = self.start if self.prior is None or self.latent is None else self.prior.images(self.latent)
        return (base + self._rise()).expand(-1, self.channels, *self.sides)

    def surprise(self) -> Tensor:
        """Minus twice the prior's log density, up to a constant; zero without a prior."""
        if self.prior is None or self.latent is None:
            return self.start.new_zeros(())
        residual = max(self.prior.residual, SMALLEST_RESIDUAL)
        return self.latent.square().sum() + (self._rise() / residual).square().sum()

    def _rise(self) -> Tensor:
        levels = [F.interpolate(level, size=self.sides, mode="bilinear") for level in self.levels]
        return torch.stack(levels).sum(dim=0)
