"""Is the reconstruction nearer to the attacked film than to every other patient's film of the same class?"""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gradiograph.core.errors import BadInput
from gradiograph.core.registry import register
from gradiograph.core.scoring import Score, ScoringContext
from gradiograph.metrics.judge import judge_of
from gradiograph.metrics.lpips import lpips_features
from gradiograph.metrics.lpips_weights import Network
from gradiograph.metrics.metric import Metric, check_pair

Distance = Literal["lpips", "pixels", "judge"]

# Distances this near to each other are ties: float32 cannot tell them apart in the sums below.
_TIE = 1e-6


def _points(images: Tensor, distance: Distance, network: Network, context: ScoringContext) -> Tensor:
    """(n, D): points whose squared Euclidean distance is the distance of the images."""
    if distance == "lpips":
        return lpips_features(images, network, context)
    if distance == "judge":
        return judge_of(context).look(images)[0]
    return images.flatten(1) / sqrt(images[0].numel())


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(n, D), (m, D) -> (n, m) as one matrix product, more exact over long sums than `torch.cdist`."""
    norms = first.square().sum(1, keepdim=True) + second.square().sum(1)
    distances: Tensor = norms - 2 * first @ second.mT
    return distances


def _class_points(label: int, distance: Distance, network: Network, context: ScoringContext, least: int) -> Tensor:
    """The points of a class's gallery films, computed once per context.

    Raises:
        BadInput: the class has fewer films than `least`.
    """
    films = context.gallery_labels == label
    count = int(films.sum())
    if count < least:
        msg = (
            f"identification needs a gallery of at least {least} films of the attacked class; class {label} has "
            f"{count}. Give the gallery more films of other patients, or lower `min_gallery` (which makes "
            "identification easier by chance)."
        )
        raise BadInput(msg)
    key = ("identification gallery", distance, network, label)
    if key not in context.cache:
        context.cache[key] = _points(context.gallery[films], distance, network, context)
    points = context.cache[key]
    assert isinstance(points, Tensor)  # noqa: S101 - narrows the cache's type
    return points


@register("metric", "identification")
def identification(
    *,
    distance: Distance = "lpips",
    network: Network = "alex",
    min_gallery: Annotated[int, Field(ge=1)] = 250,
    scores: Annotated[str, Field(pattern=r"^[a-z_]+$")] = "identification",
) -> Metric:
    """Rank of the attacked film among same-class films of other patients, by distance to the reconstruction.

    Rank = 1 + the number of gallery films of the record's class that are as near to the reconstruction as the truth
    or nearer: ties (within 1e-6) count against the attack. A reconstruction that shows a typical film and nothing of
    the patient has a uniform rank, so that top-1 succeeds by chance in 1 of N + 1 cases. The points of the gallery
    stay in memory (0.6 MB a film at 128 x 128 pixels with AlexNet).

    Args:
        distance: "lpips"; "pixels": mean squared error; or "judge": a matcher of radiographs, which knows a film again
            through blur and noise (`gradiograph judge train`).
        network: Backbone of LPIPS; not used by the others.
        min_gallery: Fewest gallery films of each attacked class.
        scores: What the names of its scores begin with: another where an audit asks for two distances. The report's
            headline is that of the name `identification`.

    Returns:
        The metric with the scores `identification_top1` and `identification_top5` (0 or 1; larger = more leaked) and
        `identification_rank` (1 = identified; smaller = more leaked). It raises `BadInput` for a class with a smaller
        gallery, and what `lpips` raises.
    """

    def ranks(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> Tensor:
        guesses, truths = (_points(images, distance, network, context) for images in (guess, truth))
        nearest = (guesses - truths).square().sum(1, keepdim=True) + _TIE
        rank = torch.ones(len(truth), device=truth.device)
        for label in sorted(set(labels.tolist())):
            gallery = _class_points(label, distance, network, context, min_gallery)
            mine = labels == label
            rank[mine] += (_squared_distances(guesses[mine], gallery) <= nearest[mine]).sum(1)
        return rank

    judge = distance if distance != "lpips" else f"{distance} {network}"

    def metric(guess: Tensor, truth: Tensor, labels: Tensor, context: ScoringContext) -> tuple[Score, ...]:
        check_pair(guess, truth)
        with torch.no_grad():
            rank = ranks(guess, truth, labels, context)
        return (
            Score(f"{scores}_top1", f"0 or 1, by {judge}", True, (rank <= 1).float()),
            Score(f"{scores}_top5", f"0 or 1, by {judge}", True, (rank <= 5).float()),
            Score(f"{scores}_rank", f"rank, 1 = identified, by {judge}", False, rank),
        )

    return metric
