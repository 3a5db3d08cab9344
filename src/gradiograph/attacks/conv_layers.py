"""Which convolutions tell each image's inputs, and what a candidate's inputs and slopes at them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from gradiograph.attacks.kernel_gradient import fits
from gradiograph.core.convolutions import Call, ConvolutionCalls
from gradiograph.core.task import copy_buffers

if TYPE_CHECKING:
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

PROBES = 2
"""Noise images on which layers are looked at."""


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A convolution of stride 1 and odd size with zeros around it, called once, on inputs that are not negative.

    Attributes:
        weight: The name of its weight.
        sides: (H, W) of its inputs and outputs.
    """

    weight: str
    sides: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ConvNetwork:
    """A model with fixed weights, as far as its convolutions are concerned.

    Attributes:
        task: Model and loss.
        state: All tensors by name; not changed.
    """

    task: Task
    state: Tensors

    @property
    def shares_statistics(self) -> bool:
        """Whether a layer normalises each image by the whole batch."""
        norms = [module for module in self.task.model.modules() if isinstance(module, _BatchNorm)]
        return any(module.training or not module.track_running_stats for module in norms)

    def layers(self, count: int) -> list[ConvLayer]:
        """The layers at which this many images can be told apart, those next to the image first."""
        convolutions = [name for name, module in self.task.model.named_modules() if isinstance(module, nn.Conv2d)]
        weights = [f"{name}.weight" for name in convolutions if f"{name}.weight" in self.task.trainable]
        noise = torch.rand(PROBES, *self.task.image_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            calls, _ = self._pass(noise.to(next(iter(self.state.values()))), weights)
        names = [call.name for call in calls]
        return [
            ConvLayer(weight=call.name, sides=(call.inputs.shape[2], call.inputs.shape[3]))
            for call in calls
            if names.count(call.name) == 1 and _keeps_its_grid(call) and _tells(call, count)
        ]

    def inputs(self, images: Tensor, layers: list[ConvLayer]) -> list[Tensor]:
        """The inputs (B, I H W) of each layer, as unit vectors; differentiable in the images."""
        calls, _ = self._pass(images, [layer.weight for layer in layers])
        found = {call.name: call.inputs for call in calls}
        return [normalize(found[layer.weight].flatten(1)) for layer in layers]

    def slopes(self, images: Tensor, label: int, layer: ConvLayer) -> tuple[Tensor, Tensor]:
        """What these images (B, C, H, W) of one class put into a layer, and the slopes of their mean loss behind it."""
        with torch.enable_grad():
            (call,), outputs = self._pass(images.detach(), [layer.weight])
            targets = torch.full((len(images),), label, device=images.device)
            (slope,) = torch.autograd.grad(self.task.loss(outputs, targets).mean(), call.outputs)
        return call.inputs.detach().flatten(1), slope.flatten(1)

    def _pass(self, images: Tensor, names: list[str]) -> tuple[list[Call], Tensor]:
        state = {name: tensor.detach() for name, tensor in self.state.items()} | copy_buffers(self.task, self.state)
        with ConvolutionCalls({name: state[name] for name in names}) as calls:
            outputs = self.task.forward(state, images)
        return calls.calls, outputs


def _keeps_its_grid(call: Call) -> bool:
    size = tuple(call.weight.shape[2:])
    stride, padding, dilation, groups = call.geometry
    same = all(side % 2 == 1 and pad == side // 2 for side, pad in zip(size, padding, strict=True))
    return same and max(size) > 1 and (*stride, *dilation, groups) == (1, 1, 1, 1, 1)


def _tells(call: Call, count: int) -> bool:
    _, channels, *sides = call.inputs.shape
    return fits(count, channels, tuple(sides)) and bool((call.inputs >= 0).all())
