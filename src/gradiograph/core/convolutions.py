"""Convolutions whose gradient will be differentiated once more, without work that a search for images has no use for.

PyTorch's second derivative of a convolution computes that by the weight too, asked for or not: one convolution of
eight. Here the weight takes no part: its gradient is formed from the layer's inputs and the slope at its outputs, as
`core.factored` does it. And one picture in three equal channels is convolved once, with the weight summed over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradiograph.core.tensors import Tensors


class Geometry(NamedTuple):
    """How a weight is moved over the picture."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Call:
    """One call of `F.conv2d`: the parameter's name, its inputs, weight and outputs, with equal channels as one."""

    name: str
    inputs: Tensor
    weight: Tensor
    outputs: Tensor
    geometry: Geometry

    def gradient(self, slope: Tensor) -> Tensor:
        """The weight's gradient (out, in or 1, h, w), from the slope at the outputs; differentiable."""
        stride, padding, dilation, groups = self.geometry
        gradient: Tensor = torch.ops.aten.convolution_backward(
            slope,
            self.inputs,
            self.weight,
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [False, True, False],
        )[1]
        return gradient


class ConvolutionCalls(TorchFunctionMode):
    """Within this context, calls of `F.conv2d` with one of the given weights are recorded and pass by the weight.

    Args:
        weights: By name; recognised by identity, so it holds for any model. None of them may be part of a graph.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self.calls: list[Call] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - torch's interface
        """Record a convolution; all else passes."""
        return (self._convolve if func is F.conv2d else func)(*args, **(kwargs or {}))

    def gradients(self, slopes: Sequence[Tensor]) -> Tensors:
        """The gradients of the recorded weights by name, from the slopes at the outputs of `calls`."""
        found: dict[str, Tensor] = {}
        for call, slope in zip(self.calls, slopes, strict=True):
            gradient = call.gradient(slope)
            found[call.name] = found[call.name] + gradient if call.name in found else gradient
        return found

    def _convolve(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> Tensor:
        name = self._names.get(id(weight))
        if are_equal_channels(input) and groups == 1:
            input, weight = input[:, :1], weight.sum(dim=1, keepdim=True)
        if name is None or isinstance(padding, str) or input.ndim != 4:
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        geometry = Geometry(_pair(stride), _pair(padding), _pair(dilation), groups)
        weight = weight.detach()
        outputs: Tensor = _FixedConvolution.apply(input, weight, geometry)
        if bias is not None:
            outputs = outputs + bias[:, None, None]
        if not outputs.requires_grad:
            outputs.requires_grad_()
        self.calls.append(Call(name, input, weight, outputs, geometry))
        return outputs


def are_equal_channels(images: Tensor) -> bool:
    """Whether a picture (B, C, H, W) is known to repeat one channel, because it was expanded."""
    return images.ndim == 4 and images.shape[1] > 1 and images.stride(1) == 0


class _FixedConvolution(Function):
    """A convolution with a constant weight: backwards it is a transposed convolution, which knows no second weight."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(weight)
        ctx.sides, ctx.geometry = inputs.shape[2:], geometry
        return F.conv2d(inputs, weight, None, *geometry)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        rest = [
            side - ((after - 1) * step - 2 * pad + apart * (size - 1) + 1)
            for side, after, step, pad, apart, size in zip(
                ctx.sides, slope.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
            )
        ]
        return F.conv_transpose2d(slope, weight, None, stride, padding, rest, groups, dilation), None, None
