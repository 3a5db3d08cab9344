"""The search that every optimisation attack shares; an attack is a choice of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, inf, isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.attacks import replay as replays
from gradiograph.attacks.batch_statistics import require_statistics, statistics_misfit
from gradiograph.attacks.label_inference import infer_labels
from gradiograph.attacks.likelihoods import LikelihoodName, seen_update
from gradiograph.attacks.mask_prior import probabilities
from gradiograph.attacks.objective import matching_names, objective, part_of
from gradiograph.attacks.optimisers import Optimiser
from gradiograph.attacks.parametrisations import Parametrisation
from gradiograph.core.attack import Attack
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.tensors import Batch, Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.denoising import DenoisingPrior
    from gradiograph.attacks.eigen import EigenPrior
    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task

MASK_START = 0.1
"""Spread of the masks' latent where a search begins: near the mean mask."""
Labels = Literal["known", "joint", "inferred"]
CHECKS = 4
"""How often a search compares the midpoint with the exact replay: before each quarter of its steps, and at its end."""


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
        replay: "exact", or "midpoint" for one gradient in place of all local steps; the same for a gradient.
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
    ) -> _Search:
        """One search from a start of its own."""
        search = _Search(self, observation, generator)
        step = self.optimiser.start(search.variables, self.steps)
        polished = ceil((1 - self.polish) * self.steps)
        for count in range(self.steps):
            if count == polished:
                search.go_exact()
            if count * CHECKS % self.steps < CHECKS:
                search.check_replay()
            search.share = count / self.steps
            before = [variable.detach().clone() for variable in search.variables]
            value = step(search.evaluate, count)
            with torch.no_grad():
                self.parametrisation.project(search.latent)
            finite = search.record(value, before)
            progress((count + 1) / self.steps if finite else 1.0)
            if not finite:
                return search
        search.record(float(search.evaluate()), search.variables)
        return search


def _advance(progress: Callable[[float], None], done: int, total: int, share: float) -> None:
    progress((done + share) / total)


class _Search:
    """The state of one search: the variables, the replay in use, the best candidate so far."""

    def __init__(self, attack: GradientMatching, observation: Observation, generator: torch.Generator) -> None:
        self.attack = attack
        self.shape = observation.task.image_shape
        names = matching_names(tuple(seen_update(observation)), attack.layers, attack.name)
        self.objective = objective(
            observation,
            likelihood=attack.likelihood,
            replay=attack.replay,
            tv=attack.tv,
            normal=attack.latent_prior,
            names=names,
        )
        self.replays = self.objective.fast
        self.generator, self.share = generator, 0.0
        self.statistics = statistics_misfit(observation) if attack.statistics else None

        device = next(iter(observation.rounds[0][0].values())).device
        self.latent = self._start(observation.num_examples, generator).to(device).requires_grad_()
        self.variables = [self.latent]
        self.labels = self._labels(part_of(observation, names), generator, device)
        if self.labels is None:
            task, masks = observation.task, attack.mask_prior
            shape = (task.num_classes, *task.target_shape) if masks is None else (len(masks.std),)
            scale = 1.0 if masks is None else MASK_START
            start = scale * torch.randn(observation.num_examples, *shape, generator=generator)
            self.variables.append(start.to(device).requires_grad_())

        self.best = inf
        self.best_variables = [variable.detach().clone() for variable in self.variables]
        self.values: list[float] = []
        self.flags = ["truncated"] if attack.paper_steps is not None and attack.steps < attack.paper_steps else []

    def _start(self, count: int, generator: torch.Generator) -> Tensor:
        attack = self.attack
        if attack.start is None:
            return attack.parametrisation.start(count, self.shape, generator)
        latent = attack.parametrisation.encode(attack.start)
        attack.parametrisation.project(latent)
        return latent

    def _labels(self, observation: Observation, generator: torch.Generator, device: torch.device) -> Tensor | None:
        """The labels as integers, None where they are searched."""
        attack = self.attack
        if attack.labels == "known" or (attack.labels_if_granted and observation.threat.knows_labels):
            if observation.labels is None:
                msg = f"Attack '{attack.name}' uses the labels, which this observation does not hold. Pass them in it."
                raise MissingKnowledge(msg)
            return observation.labels.to(device)
        return infer_labels(observation, generator).to(device) if attack.labels == "inferred" else None

    def batch(self, variables: list[Tensor]) -> Batch:
        images = self.attack.parametrisation.images(variables[0], self.shape)
        return Batch(images, self._targets(variables[1]) if self.labels is None else self.labels)

    def _targets(self, variable: Tensor) -> Tensor:
        """Probabilities of classes, or of structures by pixel."""
        masks = self.attack.mask_prior
        return variable.softmax(dim=1) if masks is None else probabilities(masks, variable)

    def normal_latent(self, variables: list[Tensor]) -> Tensor:
        """What is believed to be N(0, 1): the images' latent, and the masks' where they have one."""
        return variables[0] if self.attack.mask_prior is None else torch.cat(variables, dim=1)

    def evaluate(self) -> Tensor:
        """The objective at the variables, whose gradients it sets; one round's graph at a time is in memory."""
        for variable in self.variables:
            variable.grad = None
        values = []
        for place, replay in enumerate(self.replays):
            with torch.enable_grad():
                latent = self.normal_latent(self.variables)
                batch = self.batch(self.variables)
                value = self.objective.value(place, replay, latent, batch)
                value = value if place else value + self.beliefs(batch.images)
                gradients = torch.autograd.grad(value, self.variables)
            for variable, gradient in zip(self.variables, gradients, strict=True):
                variable.grad = gradient if variable.grad is None else variable.grad + gradient
            values.append(value.detach())
        return torch.stack(values).sum()

    def beliefs(self, images: Tensor) -> Tensor:
        """What is believed of the images beside their latent, in units of the misfit."""
        denoiser, value = self.attack.denoiser, images.new_zeros(())
        if denoiser is not None:
            value = self.objective.nat * denoiser.surprise(images, self.share, self.generator)
        return value if self.statistics is None else value + self.attack.statistics * self.statistics(images)

    def exact_value(self) -> float:
        """The objective of the best candidate by the exact replay; infinite where it is not finite."""
        with torch.no_grad():
            batch, latent = self.batch(self.best_variables), self.normal_latent(self.best_variables)
            values = [self.objective.value(i, exact, latent, batch) for i, exact in enumerate(self.objective.exact)]
        found = float(torch.stack(values).sum())
        return found if isfinite(found) else inf

    def record(self, value: float, variables: list[Tensor]) -> bool:
        """Keep the value, and the variables if they are the best; False where the search has diverged."""
        if not isfinite(value):
            self.flags.append("diverged")
            return False
        self.values.append(value)
        if value < self.best or self.attack.denoiser is not None:
            self.best, self.best_variables = value, [variable.detach().clone() for variable in variables]
        return True

    def check_replay(self) -> None:
        """Go over to the exact replay where the midpoint's own error is no longer small beside the misfit."""
        if not self.agrees(self.batch(self.variables), self.values[-1] if self.values else 1.0):
            self.go_exact()

    def go_exact(self) -> None:
        """Replay exactly from here on; what was best by the midpoint no longer counts."""
        if self.replays is not self.objective.exact:
            self.replays, self.best = self.objective.exact, inf

    def agrees(self, batch: Batch, value: float) -> bool:
        return self.replays is self.objective.exact or self.objective.agrees(batch, value)

    def result(self) -> Reconstruction:
        """The best candidate; its seconds are not counted yet."""
        with torch.no_grad():
            batch = self.batch(self.best_variables)
        if not self.agrees(batch, self.best):
            self.flags.append("approximate")
        return Reconstruction(
            images=batch.images.clamp(0, 1),
            targets=batch.targets,
            objective=tuple(self.values[1:]),
            seconds=0.0,
            flags=tuple(self.flags),
        )
