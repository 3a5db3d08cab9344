"""A plain feed-forward network as the chain of its layers, each with the activation that follows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gradiograph.core.task import Task

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Identity)
EDGE = 1e-7
"""Values of a bounded activation are kept this far from its bounds, where its inverse is infinite."""
SILENT = 1e-4
"""Values of a ReLU below this share of the largest are 0 up to the error with which they were solved for."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A convolution or dense layer, and the activation after it.

    Attributes:
        name: The layer's name in the model, such as "0".
        layer: The layer; only its geometry is read.
        activation: Applied to its outputs.
        input_shape: (C, H, W) of one image's input to a convolution, (D,) to a dense layer.
        output_shape: Of the layer's outputs for one image.
        stride: Of a convolution.
        padding: Of a convolution.
    """

    name: str
    layer: nn.Conv2d | nn.Linear
    activation: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)

    def convolve(self, values: Tensor, weight: Tensor) -> Tensor:
        """The convolution's outputs (n, K, H', W') without a bias, from values (n, C, H, W)."""
        return F.conv2d(values, weight, None, self.stride, self.padding)

    def transpose(self, slopes: Tensor, weight: Tensor) -> Tensor:
        """The transposed convolution: slopes (n, K, H', W') at its outputs -> slopes (n, C, H, W) at its inputs."""
        spare = [
            into - ((out - 1) * stride - 2 * padding + kernel)
            for into, out, stride, padding, kernel in zip(
                self.input_shape[1:], self.output_shape[1:], self.stride, self.padding, weight.shape[2:], strict=True
            )
        ]
        return F.conv_transpose2d(slopes, weight, None, self.stride, self.padding, spare)

    def invert(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's outputs z, from the activation's values f(z).

        Args:
            values: Of any shape.

        Returns:
            z, the slope f'(z), and where z is known (False where a ReLU is 0), each of the values' shape.
        """
        known = torch.ones_like(values, dtype=torch.bool)
        match self.activation:
            case nn.ReLU():
                known = values > SILENT * values.abs().max()
                return values, known.to(values), known
            case nn.LeakyReLU(negative_slope=slope):
                slopes = torch.where(values >= 0, 1.0, slope).to(values)
                return values / slopes, slopes, known
            case nn.Sigmoid():
                inside = values.clamp(EDGE, 1 - EDGE)
                return inside.logit(), inside * (1 - inside), known
            case nn.Tanh():
                inside = values.clamp(EDGE - 1, 1 - EDGE)
                return inside.atanh(), 1 - inside.square(), known
        return values, torch.ones_like(values), known


def layer_chain(attack: str, task: Task) -> tuple[Link, ...]:
    """The links from the image to the outputs.

    Args:
        attack: The name of the attack, for messages.
        task: Its model is a chain of convolutions, dense layers, activations and `Flatten` in `nn.Sequential`.

    Raises:
        BadSetting: the model is no such chain, does not end in a dense layer, or a layer's weight does not train.
    """
    links: list[Link] = []
    values = torch.zeros(1, *task.image_shape)
    for name, layer in _leaves("", task.model):
        reason = _unfit(name, layer, task)
        if isinstance(layer, ACTIVATIONS) and (not links or not isinstance(links[-1].activation, nn.Identity)):
            reason = "it does not follow a convolution or dense layer"
        if reason:
            msg = (
                f"attack '{attack}' solves a plain chain of layers; layer '{name}' ({type(layer).__name__}) of task "
                f"'{task.name}' cannot be solved: {reason}. Choose another attack, such as 'rog', or a task 'custom' "
                f"with an nn.Sequential of Conv2d, Linear, Flatten and {', '.join(a.__name__ for a in ACTIVATIONS)}."
            )
            raise BadSetting(msg)
        shape = tuple(values.shape[1:])
        with torch.no_grad():
            values = layer(values)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            links.append(_link(name, layer, shape, tuple(values.shape[1:])))
        elif not isinstance(layer, nn.Flatten):
            links[-1] = replace(links[-1], activation=layer)
    if not links or not isinstance(links[-1].layer, nn.Linear) or not isinstance(links[-1].activation, nn.Identity):
        msg = (
            f"attack '{attack}' starts from the gradient of a dense layer whose outputs are the logits; task "
            f"'{task.name}' does not end in one. Choose another attack, such as 'rog'."
        )
        raise BadSetting(msg)
    return tuple(links)


def _link(name: str, layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...], out: tuple[int, ...]) -> Link:
    link = Link(name=name, layer=layer, activation=nn.Identity(), input_shape=shape, output_shape=out)
    if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str):
        return replace(link, stride=layer.stride, padding=layer.padding)
    return link


def _leaves(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested `nn.Sequential`s in their order; any other module is one layer."""
    if not isinstance(module, nn.Sequential):
        yield name, module
        return
    for key, child in module.named_children():
        yield from _leaves(f"{name}.{key}" if name else key, child)


def _unfit(name: str, layer: nn.Module, task: Task) -> str:
    """Why the system of this layer cannot be written down; empty where it can."""
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
        if not plain or layer.padding_mode != "zeros":
            return "only groups = 1, dilation = 1 and a number of zeros as padding are solved for"
    if isinstance(layer, nn.LeakyReLU) and layer.negative_slope <= 0:
        return f"its slope {layer.negative_slope} has no inverse"
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return "" if f"{name}.weight" in task.trainable else "its weight does not train, so that it has no gradient"
    return "" if isinstance(layer, (nn.Flatten, *ACTIVATIONS)) else "its input cannot be told from its output"
