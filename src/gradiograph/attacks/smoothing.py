"""Rectifiers made smooth, so that a search has slopes to follow.

The gradient of a network with rectifiers jumps in the image: wherever a unit switches on or off, the weights' gradient
changes at once. Descent on the distance of gradients sees only the slopes between the jumps, and a line search ends at
the first of them. With x sigmoid(1.702 x / T) in place of max(x, 0), which is near x Phi(x / T) (Hendrycks and Gimpel
2016, arXiv 1606.08415), the switches become ramps of width T; as T falls the network becomes itself again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LOGISTIC = 1.702
"""The logistic function at 1.702 x is within 0.01 of the normal distribution at x."""
RELU = frozenset({F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
LEAKY_RELU = frozenset({F.leaky_relu, F.leaky_relu_})


def smoothed(temperature: float) -> AbstractContextManager[object]:
    """Within this context ReLU, leaky ReLU and PReLU are smooth; all other functions stay as they are.

    Args:
        temperature: Width of the ramp, as a share of the root mean square of a layer's values; 0 is the network itself.
    """
    return _Smoothed(temperature) if temperature > 0 else nullcontext()


def smooth_relu(values: Tensor, temperature: float) -> Tensor:
    """`x sigmoid(1.702 x / T)`, with T the temperature times the values' root mean square.

    >>> smooth_relu(torch.tensor([-1.0, 0.0, 1.0]), 1e-3).abs()
    tensor([0., 0., 1.])
    """
    width = temperature * (values.square().mean() + torch.finfo(values.dtype).tiny).sqrt()
    return values * torch.sigmoid(LOGISTIC * values / width)


class _Smoothed(TorchFunctionMode):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - torch's interface
        kwargs = kwargs or {}
        if func in RELU:
            return smooth_relu(args[0], self._temperature)
        if func in LEAKY_RELU:
            return self._leaky(args[0], args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01))
        if func is torch.prelu:
            values, slope = args
            return self._leaky(values, slope.view(-1, *[1] * (values.dim() - 2)))
        return func(*args, **kwargs)

    def _leaky(self, values: Tensor, slope: Tensor | float) -> Tensor:
        return slope * values + (1 - slope) * smooth_relu(values, self._temperature)
