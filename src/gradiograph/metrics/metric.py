"""What a metric is: reconstruction and truth in, one value per record out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradiograph.core.scoring import Score, ScoringContext

Metric = Callable[[Tensor, Tensor, Tensor, ScoringContext], tuple[Score, ...]]
"""(guess, truth, labels, context) -> scores.

Guess and truth are float32 (B, C, H, W) in [0, 1], already matched, and are not changed; labels are int64 (B,).
All of them and the context's tensors lie on one device.
Each score has values (B,): finite float32, one per record, that do not depend on the other records.
"""


def check_pair(guess: Tensor, truth: Tensor) -> None:
    """Refuse what would broadcast or poison a mean.

    Raises:
        ValueError: the shapes differ, are not (B, C, H, W), or the reconstruction is not finite.
    """
    if guess.shape != truth.shape or guess.ndim != 4:
        msg = f"A metric compares (B, C, H, W) with the same; got {tuple(guess.shape)} and {tuple(truth.shape)}."
        raise ValueError(msg)
    if not guess.isfinite().all():
        msg = "The reconstruction holds values that are not finite; an attack must return images in [0, 1]."
        raise ValueError(msg)


def single_score(
    name: str, unit: str, measure: Callable[[Tensor, Tensor, ScoringContext], Tensor], *, larger_leaks_more: bool
) -> Metric:
    """The metric with one score.

    Args:
        name: Of the score.
        unit: Of the score.
        measure: (guess, truth, context) -> (B,).
        larger_leaks_more: Direction of the score.
    """

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        with torch.no_grad():
            values = measure(guess, truth, context).float()
        return (Score(name, unit, larger_leaks_more, values),)

    return metric
