"""Maximum a posteriori: the channel's likelihood, and a prior from public films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gradiograph.attacks.denoising import DenoisingPrior
from gradiograph.attacks.eigen import load_mask_prior
from gradiograph.attacks.film_latent import FilmLatent
from gradiograph.attacks.film_network import load_film_prior
from gradiograph.attacks.likelihoods import LikelihoodName
from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.optimisers import LBFGS, Adam, Optimiser
from gradiograph.attacks.parametrisations import LowResolution, Parametrisation
from gradiograph.attacks.replay import ReplayName
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Reconstruction

ITERATIONS = 20
"""Of L-BFGS between two looks at the replay and the smoothing."""


@register("attack", "map")
@dataclass(frozen=True, kw_only=True)
class MaximumAPosteriori(Attack):
    """The images that are most probable given the update: log p(seen | simulate(x)) + log p(x).

    By default the attacker of Kerckhoffs: the likelihood is the defence's own, with its approximations, so that a
    candidate is judged by what the channel can have made of its update. With a prior the images are a public mean film
    plus principal components whose weights are N(0, 1), and what these lack of a film beside them; without one they are
    a grey low-resolution latent in [0, 1]. The search begins with a network whose rectifiers are smooth.
    Labels that the threat model grants are used, others are searched with the images; masks too, by the principal
    components of public ones where the prior's films had masks.

    Args:
        prior: A file that `gradiograph prior train` wrote.
        prior_weight: Of the prior's log density; 1 is the posterior. A distance in place of the channel's likelihood,
            and an update without a defence, count as noise of 1 % of the update's root mean square.
        generator: A file that `gradiograph prior train --kind generator` wrote, in place of a prior: its latent is
            searched, and weighed as the components are.
        around: Search around what the prior or the generator shows, too: what it lacks of a film, by pixel.
        exposure: How often the density of a film's brightness and contrast is counted, beside that of the latent of a
            prior or a generator, see `exposure`; 0 leaves them to the latent.
        denoiser: A file that `gradiograph prior train --kind restorer` wrote: its network is a diffusion model's, and
            the density of films that it knows is taken in place of, or beside, the components' (`denoising`), with the
            same weight.
        statistics: Weight of BatchNorm's statistics, see `GradientMatching`; needs "knows_buffers".
        factor: Without a prior: how much smaller the latent is than the image, along each side.
        tv: Weight of the total variation, in units of the misfit.
        likelihood: "channel", or for comparison "l2", "cosine" or "cosine_per_layer".
        steps: Gradients of the objective in each search, about.
        optimiser: "adam", its learning rate falling to a tenth along half a cosine, or "lbfgs" with a line search that
            needs an objective without jumps: see `smoothing`. None is "lbfgs"; beside a denoiser it is "adam".
        learning_rate: Of Adam's first step, in units of the latent: of a component's standard deviation, or of a pixel.
        smoothing: How smooth the network's rectifiers are made where a search begins, as a share of the root mean
            square of a layer's values: it falls to 3 % of this. 0 searches the network as it is.
        replay: "corrected": one gradient in the middle of the client's path, and what this lacked of the exact replay
            where they were last compared, 20 times in a search; "midpoint": the same without the correction, with the
            exact replay as fallback and for the last part of the steps; or "exact".
        polish: Of "midpoint": share of the steps, the last ones, that take the exact replay.
        restarts: Searches from starts of their own; the one with the smallest objective is returned.
        layers: Glob patterns of parameter names; only these tensors of the update are matched. Empty is all.

    >>> MaximumAPosteriori().requires
    ('knows_protocol', 'knows_num_examples', 'knows_defence')
    """

    prior: Path | None = None
    prior_weight: Annotated[float, Field(ge=0)] = 1.0
    generator: Path | None = None
    around: bool = True
    exposure: Annotated[float, Field(ge=0)] = 100.0
    denoiser: Path | None = None
    statistics: Annotated[float, Field(ge=0)] = 0.0
    factor: Annotated[int, Field(ge=1)] = 4
    tv: Annotated[float, Field(ge=0)] = 0.0
    likelihood: LikelihoodName = "channel"
    steps: Annotated[int, Field(ge=1)] = 300
    optimiser: Literal["adam", "lbfgs"] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    smoothing: Annotated[float, Field(ge=0)] = 0.5
    replay: ReplayName = "corrected"
    polish: Annotated[float, Field(ge=0, le=1)] = 0.25
    restarts: Annotated[int, Field(ge=1)] = 1
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.generator is not None and self.prior is not None:
            msg = "attack 'map' searches the latent of a prior or of a generator, not of both. Leave one of them out."
            raise BadSetting(msg)
        if self.denoiser is not None and self.optimiser == "lbfgs":
            msg = "A denoiser's density is drawn anew at each step, which a line search cannot follow. "
            raise BadSetting(msg + 'Set optimiser = "adam", or leave it out.')

    @property
    def requires(self) -> tuple[str, ...]:
        """The protocol and the number of images; the defence for its likelihood; public data for the prior."""
        learned = any(file is not None for file in (self.prior, self.generator, self.denoiser))
        return (*self._search(self._low_resolution()).requires, *(["public_data"] if learned else []))

    def check(self, task: Task) -> None:
        """The prior fits the task's images, and the layers exist.

        Raises:
            BadInput: they do not.
        """
        self._fitted(task.image_shape, task).check(task)

    def started_at(self, images: Tensor) -> Attack | None:
        """One search, begun at the latent that encodes these images; see `Attack.started_at`."""
        return self._fitted(tuple(images.shape[1:])).started_at(images)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Search; see `Attack.__call__`.

        Raises:
            BadInput: the prior cannot be read or is for images of another shape.
        """
        observation.threat.require("map", *self.requires)
        task = observation.task
        return self._fitted(task.image_shape, task)(observation, generator, progress)

    def _fitted(self, image_shape: tuple[int, ...], task: Task | None = None) -> GradientMatching:
        known = None
        if self.denoiser is not None:
            known = DenoisingPrior(prior=load_film_prior(self.denoiser, image_shape), weight=self.prior_weight)
        if self.generator is not None:
            return replace(self._learned(FilmLatent.of_generator(self.generator, image_shape)), denoiser=known)
        if self.prior is None:
            return replace(self._search(self._low_resolution()), denoiser=known)
        search = replace(self._learned(FilmLatent.of_components(self.prior, image_shape)), denoiser=known)
        if task is None or not task.segments:
            return search
        return replace(search, mask_prior=load_mask_prior(self.prior, (task.num_classes - 1, *task.target_shape)))

    def _learned(self, latent: FilmLatent) -> GradientMatching:
        search = self._search(latent.around() if self.around else latent.inner, self.prior_weight)
        return replace(search, exposure=latent.exposure(self.exposure)) if self.exposure else search

    def _low_resolution(self) -> LowResolution:
        return LowResolution(factor=self.factor, grey=True, boxed=True)

    def _search(self, parametrisation: Parametrisation, latent_prior: float = 0.0) -> GradientMatching:
        optimiser: Optimiser = Adam(learning_rate=self.learning_rate, schedule="cosine")
        steps = self.steps
        if self.optimiser == "lbfgs" or (self.optimiser is None and self.denoiser is None):
            optimiser = LBFGS(learning_rate=1.0, inner_steps=min(ITERATIONS, steps), line_search=True)
            steps = ceil(steps / ITERATIONS)
        return GradientMatching(
            name="map",
            likelihood=self.likelihood,
            parametrisation=parametrisation,
            tv=self.tv,
            optimiser=optimiser,
            steps=steps,
            paper_steps=None,
            labels="joint",
            labels_if_granted=True,
            replay=self.replay,
            polish=self.polish,
            latent_prior=latent_prior,
            restarts=self.restarts,
            layers=self.layers,
            smoothing=self.smoothing,
            statistics=self.statistics,
        )
