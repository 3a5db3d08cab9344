"""Which reconstruction stands for which truth: an update does not say in which order its images came."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gradiograph.core.errors import BadInput


def match(guess: Tensor, truth: Tensor) -> Tensor:
    """The order of the reconstructions that gives the smallest total squared error to the truth.

    The optimal one-to-one assignment on the mean squared error of the pixels (Kuhn 1955). It is computed once, before
    any metric, so that all metrics judge the same pairs; labels are not used. It looks at the truth, so it favours
    the attack, a little, in batches of more than one: the controls are matched in the same way.

    Args:
        guess: Reconstructions (B, C, H, W) in [0, 1].
        truth: Private images, the same shape.

    Returns:
        int64 (B,), a permutation: `guess[match(guess, truth)][i]` stands for `truth[i]`.

    Raises:
        BadInput: the shapes differ.

    >>> truth = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    >>> match(truth[[2, 0, 1]], truth)
    tensor([1, 2, 0])
    """
    if guess.shape != truth.shape:
        msg = (
            f"Reconstructions of shape {tuple(guess.shape)} can't be matched to images of shape {tuple(truth.shape)}. "
            "The attack must return one image for each image of the batch."
        )
        raise BadInput(msg)
    pairs = truth.detach().double().flatten(1), guess.detach().double().flatten(1)
    cost = torch.cdist(*pairs, compute_mode="donot_use_mm_for_euclid_dist").square()
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(order).to(guess.device)
