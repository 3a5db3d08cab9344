"""What the attacker believes about images before it sees an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def total_variation(images: Tensor) -> Tensor:
    """Anisotropic total variation: the mean absolute difference of neighbours, summed over the spatial axes.

    Geiping et al. 2020, arXiv 2003.14053, equation 4, in the authors' scaling (means, not sums).

    Args:
        images: (B, C, *spatial).

    Returns:
        A scalar, at least 0, in units of the pixels.

    >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
    tensor(1.)
    """
    steps = [images.diff(dim=axis).abs().mean() for axis in range(2, images.ndim) if images.shape[axis] > 1]
    return torch.stack(steps).sum() if steps else images.new_zeros(())
