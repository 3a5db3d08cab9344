"""The search that every optimisation attack shares; an attack is a choice of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.attacks import replay as replays
from gradiograph.attacks.label_inference import infer_labels
from gradiograph.attacks.likelihoods import LikelihoodName, misfit
from gradiograph.attacks.optimisers import Optimiser
from gradiograph.attacks.parametrisations import Parametrisation
from gradiograph.attacks.priors import total_variation
from gradiograph.core.attack import Attack
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.tensors import Batch, Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation

Labels = Literal["known", "joint", "inferred"]
CHECKS = 4
"""How often a search compares the midpoint with the exact replay: before each quarter of its steps, and at its end."""


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Attack):
    """Find the images whose update explains the one seen: likelihood x parametrisation x prior x optimiser.

    The candidate with the smallest objective is returned, clamped to [0, 1]; the papers return the last one. A search
    whose objective stops being finite ends there with the flag "diverged". A search by the midpoint that turns out to
    disagree with the exact replay goes on with the exact replay, and forgets the best candidate, whose objective cannot
    be compared; one that disagrees at its end has the flag "approximate". Fewer steps than the paper's: "truncated".

    Args:
        name: The attack's name, for messages.
        likelihood: See `likelihoods.misfit`.
        parametrisation: What is searched.
        tv: Weight of the total variation.
        optimiser: How it is searched.
        steps: Of the optimiser.
        paper_steps: The paper's number of steps.
        labels: "known": as granted; "joint": class probabilities, the softmax of logits that start from N(0, 1) and
            are searched with the images; "inferred": see `label_inference.infer_labels`.
        labels_if_granted: Where the threat model grants the labels, use them in place of "joint" or "inferred".
        replay: "exact", or "midpoint" for one gradient in place of all local steps; the same for a gradient.
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

    @property
    def requires(self) -> tuple[str, ...]:
        """The protocol and the number of images; the labels and the defence where the settings use them."""
        needs = ["knows_protocol", "knows_num_examples"]
        if self.labels == "known":
            needs.append("knows_labels")
        if self.likelihood == "channel":
            needs.append("knows_defence")
        return tuple(needs)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Search; see `Attack.__call__`. `progress` is called after every step."""
        observation.threat.require(self.name, *self.requires)
        started = perf_counter()
        search = _Search(self, observation, generator)
        step = self.optimiser.start(search.variables, self.steps)
        for count in range(self.steps):
            if count % max(1, self.steps // CHECKS) == 0:
                search.check_replay()
            before = [variable.detach().clone() for variable in search.variables]
            value = step(search.evaluate, count)
            with torch.no_grad():
                self.parametrisation.project(search.latent)
            progress((count + 1) / self.steps)
            if not search.record(value, before):
                break
        else:
            search.record(float(search.evaluate()), search.variables)
        return search.result(perf_counter() - started)


class _Search:
    """The state of one search: the variables, the replay in use, the best candidate so far."""

    def __init__(self, attack: GradientMatching, observation: Observation, generator: torch.Generator) -> None:
        self.attack = attack
        self.shape = observation.task.image_shape
        self.misfit = misfit(attack.likelihood, observation)
        self.exact = replays.exact(observation)
        by_midpoint = attack.replay == "midpoint" and observation.rounds[0][1].kind == "delta"
        self.replay = replays.midpoint(observation) if by_midpoint else self.exact

        device = next(iter(observation.rounds[0][0].values())).device
        start = attack.parametrisation.start(observation.num_examples, self.shape, generator)
        self.latent = start.to(device).requires_grad_()
        self.variables = [self.latent]
        self.labels = self._labels(observation, generator, device)
        if self.labels is None:
            size = observation.num_examples, observation.task.num_classes
            self.variables.append(torch.randn(size, generator=generator).to(device).requires_grad_())

        self.best = inf
        self.best_variables = [variable.detach().clone() for variable in self.variables]
        self.values: list[float] = []
        self.flags = ["truncated"] if attack.paper_steps is not None and attack.steps < attack.paper_steps else []

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
        return Batch(images, variables[1].softmax(dim=1) if self.labels is None else self.labels)

    def evaluate(self) -> Tensor:
        """The objective at the variables, whose gradients it sets."""
        with torch.enable_grad():
            batch = self.batch(self.variables)
            value = self.misfit(self.replay(batch))
            if self.attack.tv:
                value = value + self.attack.tv * total_variation(batch.images)
            gradients = torch.autograd.grad(value, self.variables)
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.grad = gradient
        return value.detach()

    def record(self, value: float, variables: list[Tensor]) -> bool:
        """Keep the value, and the variables if they are the best; False where the search has diverged."""
        if not isfinite(value):
            self.flags.append("diverged")
            return False
        self.values.append(value)
        if value < self.best:
            self.best, self.best_variables = value, [variable.detach().clone() for variable in variables]
        return True

    def check_replay(self) -> None:
        """Go over to the exact replay where the midpoint's own error is no longer small beside the misfit."""
        misfit = self.values[-1] if self.values else 1.0
        if not self.agrees(self.batch(self.variables), misfit):
            self.replay, self.best = self.exact, inf

    def agrees(self, batch: Batch, misfit: float) -> bool:
        if self.replay is self.exact:
            return True
        # Only a distance of updates can be held against their disagreement; a likelihood has other units.
        return replays.agrees(self.replay, self.exact, batch, 0.0 if self.attack.likelihood == "channel" else misfit)

    def result(self, seconds: float) -> Reconstruction:
        with torch.no_grad():
            batch = self.batch(self.best_variables)
        if not self.agrees(batch, self.best):
            self.flags.append("approximate")
        return Reconstruction(
            images=batch.images.clamp(0, 1),
            targets=batch.targets,
            objective=tuple(self.values[1:]),
            seconds=seconds,
            flags=tuple(self.flags),
        )
