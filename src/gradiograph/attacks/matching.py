"""The search that every optimisation attack shares; an attack is a choice of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.attacks import replay as replays
from gradiograph.attacks.batch_statistics import require_statistics
from gradiograph.attacks.likelihoods import LikelihoodName
from gradiograph.attacks.objective import matching_names
from gradiograph.attacks.optimisers import Optimiser
from gradiograph.attacks.parametrisations import Parametrisation
from gradiograph.attacks.search import Search
from gradiograph.core.attack import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.denoising import DenoisingPrior
    from gradiograph.attacks.eigen import EigenPrior
    from gradiograph.attacks.exposure import Exposure
    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Reconstruction

SHARPEST = 0.03
"""The smoothing at the end of a search, as a share of that at its beginning."""
Labels = Literal["known", "joint", "inferred"]


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Attack):
    """Find the images whose update explains the one seen: likelihood x parametrisation x prior x optimiser.

    Of several rounds the mean misfit counts. The candidate with the smallest objective is returned, clamped to [0, 1];
    the papers return the last one. A search whose objective stops being finite ends there with the flag "diverged". A
    search by the midpoint that turns out to disagree with the exact replay goes on with the exact replay, and forgets
    the best candidate, whose objective cannot be compared; one that disagrees at its end has the flag "approximate".
    Fewer steps than the paper's: "truncated".

    Args:
        name: The attack's name, for messages.
        likelihood: See `likelihoods.misfit`.
        parametrisation: What is searched.
        tv: Weight of the total variation.
        optimiser: How it is searched.
        steps: Of the optimiser, in each search.
        paper_steps: The paper's number of steps.
        labels: "known": as granted; "joint": class probabilities, the softmax of logits that start from N(0, 1) and
            are searched with the images, of each pixel where the task segments; "inferred": see
            `label_inference.infer_labels`.
        labels_if_granted: Where the threat model grants the labels, use them in place of "joint" or "inferred".
        replay: "exact", "midpoint" for one gradient in place of all local steps, or "corrected": the midpoint, and what
            it lacked of the exact replay where it was last compared. All are the same for a gradient.
        polish: Share of the steps, the last ones, that take the exact replay even where the midpoint agrees.
        latent_prior: Weight of the latent's standard normal log density; 1 is the posterior, see `objective.objective`.
        restarts: Searches, one after the other, each from a start of its own; the one with the smallest objective, of
            the exact replay, is returned.
        layers: Glob patterns of parameter names, such as "features.*": only these tensors of the update are used.
            Empty is all.
        mask_prior: Where masks are searched, their latent's mean, components and standard deviations, with the same
            density as that of the images; None searches a logit of each structure and pixel.
        denoiser: A learned density of films, which is weighed as the latent's is. Its noise falls along the search, so
            that no two values of the objective can be compared: the last candidate is returned.
        exposure: What is known of the films' brightness and contrast.
        smoothing: How smooth the network's rectifiers are made where a search begins, see `smoothing`; it falls to
            `SHARPEST` of this along the steps. As with a denoiser the last candidate is returned; the last value of the
            objective is the network's own. 0 is the network as it is.
        statistics: Weight, in units of the misfit, of how far the images' statistics in BatchNorm layers are from those
            that the update's buffers tell; see `batch_statistics`.
        start: (B, C, *spatial) in [0, 1] where the search begins, None for a random start; see `started_at`.
    """

    name: str
    likelihood: LikelihoodName
    parametrisation: Parametrisation
    tv: float
    optimiser: Optimiser
    steps: int
    paper_steps: int | None
    labels: Labels
    labels_if_granted: bool = False
    replay: replays.ReplayName = "exact"
    polish: float = 0.0
    latent_prior: float = 0.0
    restarts: int = 1
    layers: tuple[str, ...] = ()
    mask_prior: EigenPrior | None = field(default=None, compare=False, repr=False)
    denoiser: DenoisingPrior | None = field(default=None, compare=False, repr=False)
    exposure: Exposure | None = field(default=None, compare=False, repr=False)
    smoothing: float = 0.0
    statistics: float = 0.0
    start: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def requires(self) -> tuple[str, ...]:
        """The protocol and the number of images; labels, defence and buffers where the settings use them."""
        needs = ["knows_protocol", "knows_num_examples"]
        if self.labels == "known":
            needs.append("knows_labels")
        if self.likelihood == "channel":
            needs.append("knows_defence")
        if self.statistics:
            needs.append("knows_buffers")
        return tuple(needs)

    @property
    def changes(self) -> bool:
        """Whether the objective changes along the search, so that no two of its values can be compared."""
        return self.denoiser is not None or self.smoothing > 0 or self.replay == "corrected"

    def check(self, task: Task) -> None:
        """The layers exist, and statistics that are asked for.

        Raises:
            BadSetting: a pattern in `layers` matches no trained parameter, or no training moves any statistics.
        """
        matching_names(task.trainable, self.layers, self.name)
        if self.statistics:
            require_statistics(task, self.name)

    def started_at(self, images: Tensor) -> GradientMatching:
        """One search, begun at the latent that encodes these images; see `Attack.started_at`."""
        return replace(self, start=images.detach(), restarts=1)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Search; see `Attack.__call__`. `progress` is called after every step of every search."""
        observation.threat.require(self.name, *self.requires)
        started = perf_counter()
        found: list[tuple[float, Reconstruction]] = []
        for place in range(self.restarts):
            search = self._search(observation, generator, partial(_advance, progress, place, self.restarts))
            score = search.exact_value() if self.restarts > 1 else search.best
            found.append((score, search.result()))
        _, best = min(found, key=lambda pair: pair[0])
        return replace(best, seconds=perf_counter() - started)

    def _search(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Search:
        """One search from a start of its own."""
        search = Search(self, observation, generator)
        step = self.optimiser.start(search.variables, self.steps)
        for count in range(self.steps):
            search.share = count / self.steps
            search.temperature = self.smoothing * SHARPEST**search.share
            search.tend_replay(count)
            before = [variable.detach().clone() for variable in search.variables]
            value = step(search.evaluate, count)
            with torch.no_grad():
                self.parametrisation.project(search.latent)
            finite = search.record(value, before)
            progress((count + 1) / self.steps if finite else 1.0)
            if not finite:
                return search
        search.temperature = 0.0
        if self.replay == "corrected":
            search.correct()
        search.record(float(search.evaluate()), search.variables)
        return search


def _advance(progress: Callable[[float], None], done: int, total: int, share: float) -> None:
    progress((done + share) / total)
