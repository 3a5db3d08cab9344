"""ROG's search over a low-resolution latent, written out plainly from the paper: torch and nothing else.

Yue et al. 2023, arXiv 2206.04055, section 4, without the learned refinement of the picture. It is the yardstick of
`bench.py`, and a test holds the preset `rog` to its trajectory. Nothing is shared with the package on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import cos, pi
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


@dataclass(frozen=True)
class PlainResult:
    """The images (B, C, H, W) of the last candidate, the objective after each step, and the seconds of each step."""

    images: Tensor
    objective: tuple[float, ...]
    seconds: tuple[float, ...]


def plain_rog(
    network: nn.Module,
    seen: Mapping[str, Tensor],
    labels: Tensor,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    local_steps: int,
    local_learning_rate: float,
    steps: int = 100,
    timed_steps: int | None = None,
    learning_rate: float = 0.05,
    factor: int = 4,
    watch: Callable[[Tensor], None] | None = None,
) -> PlainResult:
    """Search the images whose local training gives the update that was seen.

    Args:
        network: The model before the round, without buffers; not changed.
        seen: Weights after minus weights before, by name, for every parameter.
        labels: int64 (B,), known.
        image_shape: (C, H, W), H and W divisible by `factor`.
        generator: Draws the latent from U(0, 1).
        local_steps: Steps of plain SGD on the whole batch in the round.
        local_learning_rate: Of that SGD.
        steps: Of Adam, over which the learning rate falls to a tenth along half a cosine.
        timed_steps: End after this many steps, without the objective after the last; None runs all.
        learning_rate: Of Adam's first step.
        factor: The latent is the image's size divided by this, upsampled bicubically.
        watch: Called with the images after every step; its time is not counted.
    """
    channels, height, width = image_shape
    start = torch.rand(len(labels), channels, height // factor, width // factor, generator=generator)
    latent = start.to(labels.device).requires_grad_()
    before = {name: parameter.detach().requires_grad_() for name, parameter in network.named_parameters()}
    # The relative error: Adam's epsilon would matter beside squared errors of 1e-12.
    scale = sum(float(tensor.square().sum()) for tensor in seen.values())

    def objective() -> Tensor:
        images = upsample(latent, factor)
        weights = train(network, before, images, labels, local_steps, local_learning_rate)
        errors = [(weights[name] - before[name] - seen[name]).square().sum() for name in before]
        return torch.stack(errors).sum() / scale

    adam = torch.optim.Adam([latent], lr=learning_rate)
    values, seconds = [], []
    for count in range(steps if timed_steps is None else timed_steps):
        started = perf_counter()
        adam.param_groups[0]["lr"] = learning_rate * (0.1 + 0.9 * (1 + cos(pi * count / steps)) / 2)
        value = objective()
        (latent.grad,) = torch.autograd.grad(value, [latent])
        adam.step()
        values.append(float(value.detach()))
        seconds.append(perf_counter() - started)
        if watch is not None:
            watch(upsample(latent.detach(), factor))
    if timed_steps is None:
        values.append(float(objective().detach()))
    return PlainResult(upsample(latent.detach(), factor), tuple(values[1:]), tuple(seconds))


def train(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    local_steps: int,
    local_learning_rate: float,
) -> Mapping[str, Tensor]:
    """The weights after local training, with the graph that leads to them."""
    for _ in range(local_steps):
        loss = F.cross_entropy(functional_call(network, dict(weights), (images,)), labels)
        gradients: Iterable[Tensor] = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {
            name: torch.sub(weight, gradient, alpha=local_learning_rate)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
    return weights


def upsample(latent: Tensor, factor: int) -> Tensor:
    """The images of a latent."""
    return F.interpolate(latent, scale_factor=factor, mode="bicubic", align_corners=False)
