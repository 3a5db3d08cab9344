"""Local optimisers as pure functions: (weights, gradient, memory) -> (weights, memory), differentiable throughout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from gradiograph.core.factored import OuterSum

Value = TypeVar("Value", Tensor, OuterSum)
Memory = tuple[Any, ...]
Step = Callable[[Any, Any, Memory, int], tuple[Any, Memory]]


def sgd(*, learning_rate: float, momentum: float, weight_decay: float) -> Step:
    """Stochastic gradient descent with heavy-ball momentum, as `torch.optim.SGD`; factors stay factors."""

    def step(weight: Value, gradient: Value, memory: Memory, count: int) -> tuple[Value, Memory]:
        if weight_decay:
            gradient = gradient + weight_decay * weight
        if momentum:
            gradient = momentum * memory[0] + gradient if count else gradient
        return weight - learning_rate * gradient, (gradient,) if momentum else ()

    return step


def adamw(*, learning_rate: float, weight_decay: float) -> Step:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with betas 0.9 and 0.999, as `torch.optim.AdamW`."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def step(weight: Tensor, gradient: Tensor, memory: Memory, count: int) -> tuple[Tensor, Memory]:
        first, second = memory if count else (torch.zeros_like(weight), torch.zeros_like(weight))
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        corrected = first / (1 - beta1 ** (count + 1))
        # The square root's slope is infinite at zero; a unit that never fired has a zero gradient in every step.
        spread = torch.where(second > 0, second, 1.0).sqrt() * (second > 0) / (1 - beta2 ** (count + 1)) ** 0.5
        decayed = weight * (1 - learning_rate * weight_decay)
        return decayed - learning_rate * corrected / (spread + epsilon), (first, second)

    return step


def linear_gain(*, steps: int, learning_rate: float, momentum: float, decay: float) -> float:
    """The variance of the weights after these steps of `sgd`, for gradients that are white noise of variance 1.

    Args:
        steps: How many.
        learning_rate: Of each.
        momentum: Heavy-ball momentum, its memory empty at first.
        decay: Strength of the pull of the weights back to where they were.

    >>> linear_gain(steps=3, learning_rate=0.5, momentum=0.0, decay=0.0)
    0.75
    """
    # (weight, velocity) <- A (weight, velocity) + b noise
    transition = torch.tensor([[1 - learning_rate * decay, -learning_rate * momentum], [decay, momentum]]).double()
    noise = torch.tensor([-learning_rate, 1.0]).double()
    spread = torch.zeros(2, 2).double()
    for _ in range(steps):
        spread = transition @ spread @ transition.T + torch.outer(noise, noise)
    return float(spread[0, 0])
