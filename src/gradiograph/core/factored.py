"""Gradients of dense layers as what they are: sums of outer products over the batch, formed only when asked for.

The gradient of a dense layer's weight is sum_b delta_b h_b^T, with delta_b the loss's slope at the layer's outputs and
h_b its inputs. Norms and inner products of such updates, and the local steps of SGD, need the factors alone: a layer
of 33 million weights that saw four images costs 264 thousand numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradiograph.core.tensors import Tensors

SAVING = 4
"""A weight is kept as factors where these have at most this many times fewer numbers."""
_PART = 2**16


@dataclass(frozen=True)
class OuterSum:
    """The matrix sum_r left_r right_r^T.

    Attributes:
        left: (R, out).
        right: (R, in).
    """

    left: Tensor
    right: Tensor

    @classmethod
    def zero(cls, weight: Tensor) -> OuterSum:
        """The zero matrix of a weight's shape: no term."""
        out, into = weight.shape
        return cls(weight.new_zeros(0, out), weight.new_zeros(0, into))

    def dense(self) -> Tensor:
        """The matrix (out, in)."""
        return self.left.T @ self.right

    def apply(self, inputs: Tensor) -> Tensor:
        """The product of inputs (..., in) with the transposed matrix: (..., out)."""
        return (inputs @ self.right.T) @ self.left

    def __add__(self, other: OuterSum) -> OuterSum:
        return OuterSum(torch.cat([self.left, other.left]), torch.cat([self.right, other.right]))

    def __rmul__(self, factor: float) -> OuterSum:
        return OuterSum(factor * self.left, self.right)

    def __sub__(self, other: OuterSum) -> OuterSum:
        return self + (-1.0) * other


class FactoredTensors(Mapping[str, Tensor]):
    """Tensors by name, some of them kept as factors and formed when they are read."""

    def __init__(self, values: Mapping[str, Tensor | OuterSum]) -> None:
        self._values = dict(values)
        self._formed: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        value = self._values[name]
        if isinstance(value, Tensor):
            return value
        if name not in self._formed:
            self._formed[name] = value.dense()
        return self._formed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def value(self, name: str) -> Tensor | OuterSum:
        """The tensor, or its factors."""
        return self._values[name]


def scaled(tensors: Tensors, factor: float) -> Tensors:
    """All tensors times a number; factors stay factors."""
    products = {name: factor * factors(tensors, name) for name in tensors}
    return FactoredTensors(products)


def factors(tensors: Tensors, name: str) -> Tensor | OuterSum:
    """The tensor of this name, as factors where it is kept so."""
    return tensors.value(name) if isinstance(tensors, FactoredTensors) else tensors[name]


def plus(first: Tensor | OuterSum, second: Tensor | OuterSum) -> Tensor | OuterSum:
    """The sum, as factors where both are.

    >>> plus(OuterSum(torch.ones(1, 2), torch.ones(1, 3)), torch.ones(2, 3))[0]
    tensor([2., 2., 2.])
    """
    if isinstance(first, OuterSum) and isinstance(second, OuterSum):
        return first + second
    left, right = (value.dense() if isinstance(value, OuterSum) else value for value in (first, second))
    return left + right


def inner(first: Tensors, second: Tensors, name: str) -> Tensor:
    """The inner product of two tensors of this name: a scalar, from the factors where there are any.

    >>> a = FactoredTensors({"w": OuterSum(torch.ones(1, 2), torch.full((1, 3), 2.0))})
    >>> inner(a, {"w": torch.ones(2, 3)}, "w"), inner(a, a, "w")
    (tensor(12.), tensor(24.))
    """
    left, right = factors(first, name), factors(second, name)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return _dot(left.reshape(-1), right.reshape(-1))
    if isinstance(left, Tensor):
        left, right = right, left
    if isinstance(left, OuterSum) and isinstance(right, OuterSum):
        return ((left.left @ right.left.T) * (left.right @ right.right.T)).sum()
    return ((left.left @ right) * left.right).sum()  # type: ignore[union-attr, operator] # left has the factors here


def squared_distance(first: Tensors, second: Tensors, name: str, square: Tensor) -> Tensor:
    """The squared distance of two tensors of this name, without forming the first where it has factors.

    Args:
        first: With factors, or without.
        second: Without.
        name: Of the tensor.
        square: The second one's inner product with itself.
    """
    if isinstance(factors(first, name), OuterSum):
        return inner(first, first, name) - 2 * inner(first, second, name) + square
    return F.mse_loss(first[name], second[name], reduction="sum")


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of two vectors, in parts: one running sum over 33 million float32 is off by a thousandth."""
    parts = zip(torch.split(left, _PART), torch.split(right, _PART), strict=True)
    return torch.stack([torch.dot(a, b) for a, b in parts]).sum()


class DenseCalls(TorchFunctionMode):
    """Within this context, calls of `F.linear` with one of the given weights are recorded, and shifted if asked.

    Args:
        weights: By name; recognised by identity, so it holds for any model.
        shifts: What is added to each weight, as factors.
    """

    def __init__(self, weights: Mapping[str, Tensor], shifts: Mapping[str, OuterSum]) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self._shifts = shifts
        self.inputs: dict[str, list[Tensor]] = {name: [] for name in weights}
        self.outputs: dict[str, list[Tensor]] = {name: [] for name in weights}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - torch's interface
        """Record a dense layer's inputs and outputs; all else passes."""
        kwargs = kwargs or {}
        name = self._names.get(id(args[1])) if func is F.linear and len(args) > 1 else None
        if name is None:
            return func(*args, **kwargs)
        inputs, weight, *bias = args
        outputs = F.linear(inputs, weight.detach(), *bias, **kwargs)
        if name in self._shifts:
            outputs = outputs + self._shifts[name].apply(inputs)
        if not outputs.requires_grad:
            outputs.requires_grad_()
        self.inputs[name].append(inputs)
        self.outputs[name].append(outputs)
        return outputs

    def gradient(self, name: str, slope: Tensor) -> OuterSum:
        """The weight's gradient, from the slope at the outputs of its one call."""
        (inputs,) = self.inputs[name]
        return OuterSum(slope.reshape(-1, slope.shape[-1]), inputs.reshape(-1, inputs.shape[-1]))


_ONCE: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


def factorable(model: nn.Module, state: Tensors, images: Tensor, terms: int) -> tuple[str, ...]:
    """Names of the weights whose gradient is worth keeping as this many outer products.

    A weight counts if the model uses it in one dense layer, once in a forward pass, and nowhere else: found by a pass
    on the images given, once for each model.
    """
    if model not in _ONCE:
        _ONCE[model] = tuple(_used_once(model, state, images))
    return tuple(name for name in _ONCE[model] if SAVING * terms * sum(state[name].shape) <= state[name].numel())


def _used_once(model: nn.Module, state: Tensors, images: Tensor) -> Iterator[str]:
    names = [f"{place}.weight" for place, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    weights = {name: state[name].detach().requires_grad_() for name in names if name in state}
    copies = {name: tensor.detach().clone() for name, tensor in state.items() if name not in weights}
    with torch.enable_grad():
        with DenseCalls(weights, {}) as calls:
            outputs = torch.func.functional_call(model, {**copies, **weights}, (images.detach(),))
        if not outputs.requires_grad:
            return
        elsewhere = torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)
    for (name, _), gradient in zip(weights.items(), elsewhere, strict=True):
        if gradient is None and len(calls.outputs[name]) == 1 and calls.inputs[name][0].ndim == 2:
            yield name
