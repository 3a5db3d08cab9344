"""The input of a convolution, from its outputs and the gradient of its weight."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.layer_chain import Link

BLOCK = 1024
"""Unit inputs that the convolution is applied to at once."""


def convolution_input(
    link: Link,
    weight: Tensor,
    outputs: Tensor,
    known: Tensor,
    slope: Tensor,
    gradient: Tensor,
    tolerance: float,
) -> tuple[Tensor, float, int]:
    """The least-squares input x of a convolution (Zhu and Blaschko 2021, arXiv 2010.07733, section 3).

    Both kinds of constraints are linear in x: W x = z for the outputs that are known, and dL/dW = the correlation of
    the slope with x. The second are brought to the size of the first, so that neither drowns in the other.

    Args:
        link: The convolution.
        weight: (K, C, kh, kw), float64.
        outputs: (K, H', W'), without the bias.
        known: (K, H', W'), which of them hold.
        slope: (K, H', W'), of the loss at the outputs.
        gradient: (K, C, kh, kw), of the weight.
        tolerance: Singular values below this share of the largest count as zero.

    Returns:
        x (C * H * W,), the shortest where there are several; the relative residual of the system; its rank, which is
        below C * H * W where it does not determine x.
    """
    by_weight = _outputs_of_unit_inputs(link, weight)[known.flatten()]
    by_gradient = _gradients_of_unit_inputs(link, weight, slope)
    size = by_gradient.norm(dim=1).max()
    factor = by_weight.norm(dim=1).max() / size if len(by_weight) and float(size) else 1.0
    system = torch.cat([by_weight, factor * by_gradient])
    values = torch.cat([outputs[known], factor * gradient.flatten()])
    solved = torch.linalg.lstsq(system.cpu(), values[:, None].cpu(), rcond=tolerance, driver="gelsy")
    x = solved.solution[:, 0].to(values)
    misfit = (system @ x - values).norm() / values.norm().clamp_min(torch.finfo(values.dtype).tiny)
    return x, float(misfit), int(solved.rank)


def _outputs_of_unit_inputs(link: Link, weight: Tensor) -> Tensor:
    """(K * H' * W', C * H * W): the convolution as a matrix."""
    blocks = torch.split(torch.eye(prod(link.input_shape)).to(weight), BLOCK)
    columns = [link.convolve(block.reshape(-1, *link.input_shape), weight).flatten(1) for block in blocks]
    return torch.cat(columns).T


def _gradients_of_unit_inputs(link: Link, weight: Tensor, slope: Tensor) -> Tensor:
    """(K * C * kh * kw, C * H * W): the weight's gradient as a function of the input; channels do not mix."""
    _, height, width = link.input_shape
    kernels, channels, *window = weight.shape
    taps = torch.eye(prod(window)).to(weight).reshape(1, -1, *window)
    one = link.transpose(slope[:, None], taps).flatten(2)
    system = one.new_zeros(kernels, channels, one.shape[1], channels, one.shape[2])
    for channel in range(channels):
        system[:, channel, :, channel] = one
    return system.reshape(-1, channels * height * width)
