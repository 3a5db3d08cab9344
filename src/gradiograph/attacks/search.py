"""The state of one search: what moves, what is seen of it, and the best that was found."""

from __future__ import annotations

from math import ceil, inf, isfinite
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks import replay as replays
from gradiograph.attacks.batch_statistics import statistics_misfit
from gradiograph.attacks.label_inference import infer_labels
from gradiograph.attacks.likelihoods import seen_update
from gradiograph.attacks.mask_prior import probabilities
from gradiograph.attacks.objective import matching_names, objective, part_of
from gradiograph.attacks.smoothing import smoothed
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.tensors import Batch, Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.matching import GradientMatching
    from gradiograph.core.attack import Observation

CHECKS = 4
"""How often a search compares the midpoint with the exact replay: before each quarter of its steps, and at its end."""
CORRECTIONS = 20
"""How often a search corrects the midpoint."""
MASK_START = 0.1
"""Spread of the masks' latent where a search begins: near the mean mask."""


class Search:
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
        self.generator, self.share, self.temperature = generator, 0.0, 0.0
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
        """The images of the variables, and their labels as they are known or searched."""
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
            with smoothed(self.temperature), torch.enable_grad():
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
        if self.attack.exposure is not None:
            value = self.objective.nat * self.attack.exposure.surprise(images)
        if denoiser is not None:
            value = value + self.objective.nat * denoiser.surprise(images, self.share, self.generator)
        return value if self.statistics is None else value + self.attack.statistics * self.statistics(images)

    def exact_value(self) -> float:
        """The objective of the best candidate by the exact replay; infinite where it is not finite."""
        with torch.no_grad():
            batch, latent = self.batch(self.best_variables), self.normal_latent(self.best_variables)
            values = [self.objective.value(i, exact, latent, batch) for i, exact in enumerate(self.objective.exact)]
            found = float(torch.stack(values).sum() + self.beliefs(batch.images))
        return found if isfinite(found) else inf

    def record(self, value: float, variables: list[Tensor]) -> bool:
        """Keep the value, and the variables if they are the best; False where the search has diverged."""
        if not isfinite(value):
            self.flags.append("diverged")
            return False
        self.values.append(value)
        if value < self.best or self.attack.changes:
            self.best, self.best_variables = value, [variable.detach().clone() for variable in variables]
        return True

    def tend_replay(self, count: int) -> None:
        """Before the step of this number: correct the replay, or see whether it will still do."""
        steps = self.attack.steps
        if self.attack.replay == "corrected":
            if count * CORRECTIONS % steps < CORRECTIONS:
                self.correct()
            return
        if count == ceil((1 - self.attack.polish) * steps):
            self.go_exact()
        if count * CHECKS % steps < CHECKS:
            self.check_replay()

    def correct(self) -> None:
        """Make the replay exact at the variables as they are."""
        if self.objective.fast is self.objective.exact:
            return
        with torch.no_grad(), smoothed(self.temperature):
            batch = self.batch(self.variables)
            pairs = zip(self.objective.fast, self.objective.exact, strict=True)
            self.replays = tuple(replays.corrected(fast, exact, batch) for fast, exact in pairs)

    def check_replay(self) -> None:
        """Go over to the exact replay where the midpoint's own error is no longer small beside the misfit."""
        if not self.agrees(self.batch(self.variables), self.values[-1] if self.values else 1.0):
            self.go_exact()

    def go_exact(self) -> None:
        """Replay exactly from here on; what was best by the midpoint no longer counts."""
        if self.replays is not self.objective.exact:
            self.replays, self.best = self.objective.exact, inf

    def agrees(self, batch: Batch, value: float) -> bool:
        """Whether the replay in use is close enough to the exact one; see `Objective.agrees`."""
        return self.replays is self.objective.exact or self.objective.agrees(self.replays, batch, value)

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
