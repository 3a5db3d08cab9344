"""How long the input of a dense layer without a bias is: the length at which the network agrees with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradiograph.core.task import copy_buffers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

Slopes = Callable[["Tensor"], "Tensor"]

POINTS = 400
"""Lengths tried on the coarse grid."""
RANGE = 3
"""The grid reaches from 10 ** -RANGE to 10 ** RANGE times the length to be expected."""
ZOOMS = 4
"""Times that the grid around a minimum is refined by a factor of about 30."""
AS_GOOD = 1e-3
"""How much larger than the smallest a relative misfit may be that still explains the gradient."""


class _DenseOutputs(TorchFunctionMode):
    """Within this context the calls of `F.linear` with one weight, recognised by identity, return these outputs."""

    def __init__(self, weight: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self._weight = weight
        self._outputs = outputs

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - torch's interface
        """Put the outputs in the place of the layer's; all else passes."""
        if func is F.linear and len(args) > 1 and args[1] is self._weight:
            return self._outputs.clone()  # an in-place ReLU must not touch the tensor whose slope is asked for
        return func(*args, **(kwargs or {}))


def outputs_above(task: Task, state: Tensors, weight: str, values: Tensor) -> Tensor:
    """The model's outputs (n, K) where the dense layer with this weight puts out the values (n, U)."""
    with _DenseOutputs(state[weight], values):
        return task.forward({**state, **copy_buffers(task, state)}, values.new_zeros(1, *task.image_shape))


def slopes_above(task: Task, state: Tensors, weight: str, values: Tensor, label: int) -> Tensor:
    """The slope of one image's loss at the outputs (n, U) of the dense layer with this weight."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        outputs = outputs_above(task, state, weight, values)
        loss = task.loss(outputs, torch.full((len(values),), label, device=values.device)).sum()
        (slopes,) = torch.autograd.grad(loss, values)
    return slopes


def input_scales(
    slopes: Slopes, left: Tensor, expected: float, signs: tuple[float, ...], slack: float = AS_GOOD
) -> list[tuple[float, float]]:
    """The lengths c at which a unit input's gradient is explained: c * slopes(c) = left.

    The gradient of the weight is the outer product of the slope at the layer's outputs and its input c v, with |v| = 1,
    so that its product with v is c times the slope, which the network above gives for every c. The equation can have
    more than one solution: under the cross entropy a long input whose image is classified well has the gradient of a
    short one. The misfit is of absolute values: units that switch within the client's round are outliers.

    Args:
        slopes: Lengths (n,) -> slopes (n, U) at the outputs of the layer for the input c v.
        left: (U,), the gradient of the weight times v.
        expected: A length of the right order.
        signs: 1.0, -1.0 or both: those that c can have.
        slack: How much larger than the smallest a relative misfit may be.

    Returns:
        (c, relative misfit) for each minimum that explains the gradient about as well as the best, best first.
    """
    size = left.abs().sum().clamp_min(torch.finfo(left.dtype).tiny)

    def misfit(lengths: Tensor) -> Tensor:
        return (lengths[:, None] * slopes(lengths) - left).abs().sum(dim=1) / size

    found: list[tuple[float, float]] = []
    for sign in signs:
        lengths = sign * expected * torch.logspace(-RANGE, RANGE, POINTS).to(left)
        values = misfit(lengths)
        inner = (values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])
        # Where noise leaves no minimum inside the grid, its end is the best that there is.
        places = {*inner.nonzero()[:, 0].tolist(), min(max(int(values.argmin()) - 1, 0), POINTS - 3)}
        found += [_zoom(misfit, lengths[place], lengths[place + 2]) for place in sorted(places)]
    found.sort(key=lambda pair: pair[1])
    return [pair for pair in found if pair[1] <= found[0][1] + slack]


def _zoom(misfit: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[float, float]:
    """The minimum between two lengths, and its value."""
    for _ in range(ZOOMS):
        share = torch.linspace(0, 1, 64, dtype=low.dtype, device=low.device)
        lengths = low + share * (high - low)
        values = misfit(lengths)
        place = int(values.argmin())
        low, high = lengths[max(place - 1, 0)], lengths[min(place + 1, 63)]
    return float(lengths[place]), float(values[place])
