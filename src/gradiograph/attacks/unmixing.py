"""Solving for all images of a batch: the gradient of a dense layer, unmixed and inverted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch.nn.functional import normalize

from gradiograph.attacks.dense_layer import SeenLayer, first_dense_layer
from gradiograph.attacks.eigen import EigenPrior, load_prior
from gradiograph.attacks.feature_inversion import FeatureInversion, layer_inputs
from gradiograph.attacks.feature_space import FeatureSpace, feature_space
from gradiograph.attacks.hidden import hidden_share
from gradiograph.attacks.masks import LARGEST, hidden_mixture, seen_mixture, summands_of
from gradiograph.attacks.mixture import Mixture, row_space, unmix
from gradiograph.attacks.scores import hidden_scores, seen_scores
from gradiograph.core.attack import Attack
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task

PREVIEW = 0.25
"""Steps of each search before another fit of the masks, as a share of all."""
NOISY = 0.5
"""Steps of the last search under noise, as a share of all: it soon knows what there is to know."""
CLEAN = 0.05
"""Noise of the faintest direction, as a share of its length, up to which the cone alone is trusted."""
HIDDEN = 0.06
"""What a channel hides of an update, as a share of its norm, from which on its likelihood is used."""
FIRST_DOUBT = 0.1
"""How far the features that are first found may be off, as a share of their size."""
DOUBT = 1.0
"""How far those of the images found may be, as a share of how far they are from the features they were searched by."""
DOUBT_RANGE = (0.01, 0.1)


@register("attack", "unmixing")
@dataclass(frozen=True, kw_only=True)
class Unmixing(Attack):
    """The inputs of the first dense layer as the extreme rays of the nonnegative cone in its gradient's row space.

    For inputs that are not negative, as after a ReLU, any number of classes and any head above: see `cone`. Under noise
    and with a two-class head behind a ReLU each row is a sum over the images for which its unit fires: see `vertices`
    and `masks`; with a prior, rows are compared within the space of public features. The images are then searched that
    have these inputs, with the noise's precision and, if a prior is given, its density; and the masks are fitted again
    to the features of the images found. Where the channel hides values, as quantisers, sparsifiers and signs do, its
    likelihood takes the place of least squares, which needs the prior: see `scores` and `hidden`. No labels are used.

    Flags: "approximate": the update sums several local steps. "partial": the row space holds no nonnegative vectors;
    every image is the prior's mean.

    Args:
        prior: A file written by `gradiograph prior train`; None searches the pixels alone.
        steps: Of the search for the images.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
        refits: How often, under noise, masks are fitted again.
        tolerance: How well the inputs are taken to be known where the update has next to no noise, as a share of their
            root mean square: with a prior, its density then has a say. 0 takes them as exact, which a shallow network's
            are; a deep one's fit images that are no films (0.1 was found on validation films).
        channel_steps: Of Newton on the likelihood of a channel that hides values; 0 takes what was seen as the update
            plus noise, the attacker who does not know the defence.
    """

    prior: Path | None = None
    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.06
    tv: Annotated[float, Field(ge=0)] = 1e-7
    refits: Annotated[int, Field(ge=0)] = 4
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    channel_steps: Annotated[int, Field(ge=0)] = 10

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of images and the protocol; public data for the prior."""
        return ("knows_num_examples", "knows_protocol", *(["public_data"] if self.prior else []))

    def check(self, task: Task) -> None:
        """A dense layer is trained and is called once on one vector for each image; the prior fits the images.

        Raises:
            BadInput: it does not.
        """
        first_dense_layer(task)
        self._load(task)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Unmix, then search the images; see `Attack.__call__`."""
        observation.threat.require("unmixing", *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        layer = SeenLayer.of(observation, first_dense_layer(task), generator)
        search = FeatureInversion(
            steps=self.steps, learning_rate=self.learning_rate, tv=self.tv, prior=self._load(task)
        )
        start = 0.5 + 0.01 * torch.randn(count, 1, *task.image_shape[1:], generator=generator)
        flags = ["approximate"] if (observation.local_steps or 1) > 1 else []
        masked = _Masked.of(observation, layer, count, search.prior, self.channel_steps, generator)
        usual = None if masked is None or masked.space is None else float(masked.space.energy.sum().sqrt())
        mixture = masked.first(generator) if masked else None
        refits = self.refits if masked and mixture else 0
        mixture = mixture or unmix(layer.gradient[layer.weight], count, generator)
        targets: Tensor | None = None
        values: list[float] = []
        if mixture is None:
            prior = search.prior
            mean = start if prior is None else prior.images(torch.zeros(count, len(prior.std)))
            images = mean.expand(-1, task.image_shape[0], -1, -1)
            flags.append("partial")
        else:
            if self.tolerance and mixture.precision is None:
                spread = self.tolerance * mixture.features.square().mean(dim=1, keepdim=True).sqrt()
                mixture = replace(mixture, precision=1 / spread.square())
            last = search if mixture.precision is None else replace(search, steps=max(1, round(NOISY * self.steps)))
            quick = replace(search, steps=max(1, round(PREVIEW * self.steps)))
            share = last.steps / self.steps
            total = share + PREVIEW * refits
            for refit in range(refits):
                part = _part(progress, refit * PREVIEW, PREVIEW, total)
                images, _, _ = search_images(layer, mixture, quick, start, part, usual)
                mixture = masked.again(mixture, images) if masked else mixture
            done = _part(progress, total - share, share, total)
            images, targets, values = search_images(layer, mixture, last, start, done, usual)
        return Reconstruction(
            images=images.float().cpu().clamp(0, 1).contiguous(),
            targets=targets,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _load(self, task: Task) -> EigenPrior | None:
        return None if self.prior is None else load_prior(self.prior, task.image_shape)


@dataclass(frozen=True, kw_only=True)
class _Masked:
    """The masks and features of a noisy gradient below a two-class head.

    Attributes:
        observation: What the server holds.
        layer: The layer.
        count: B.
        scale: (U,), the difference of the head's two weights of each unit.
        space: Of the features of public films; None without a prior.
        channel_steps: Of Newton; 0 where the channel hides nothing or is not known.
    """

    observation: Observation
    layer: SeenLayer
    count: int
    scale: Tensor
    space: FeatureSpace | None
    channel_steps: int

    @classmethod
    def of(
        cls,
        observation: Observation,
        layer: SeenLayer,
        count: int,
        prior: EigenPrior | None,
        channel_steps: int,
        generator: torch.Generator,
    ) -> _Masked | None:
        """None where the head is another, the batch too large, or so little noise that the cone is to be trusted."""
        scale = layer.two_class_scale()
        space = row_space(layer.gradient[layer.weight], count)
        if scale is None or count > LARGEST:
            return None
        clean = layer.as_update(space.left.to(scale) @ space.basis.to(scale))
        steps = channel_steps if prior is not None else 0
        steps = steps if steps and hidden_share(observation, layer.weight, clean) > HIDDEN else 0
        if not steps and space.share < CLEAN:
            return None
        known = None if prior is None else feature_space(layer, prior, generator)
        return cls(observation=observation, layer=layer, count=count, scale=scale, space=known, channel_steps=steps)

    def first(self, generator: torch.Generator) -> Mixture | None:
        """From the update alone; None where too few units' rows are sure, or a film is behind none of them."""
        gradient = self.layer.gradient[self.layer.weight]
        if self.channel_steps and self.space is not None:
            scores = hidden_scores(self.observation, self.layer, self.count, self.scale, self.space, self.channel_steps)
        else:
            scores = seen_scores(gradient, self.count, self.space)
        found = summands_of(scores, self.scale, generator)
        if found is None:
            return None
        masks, summands = found
        if self.channel_steps:
            doubts = torch.full((self.count,), FIRST_DOUBT).to(summands)
            mixture = hidden_mixture(self.observation, self.layer, self.scale, masks, summands, doubts)
        else:
            mixture = seen_mixture(gradient, self.scale, summands)
        return mixture if mixture.is_sound() else None

    def again(self, mixture: Mixture, images: Tensor) -> Mixture:
        """With the features of the images found to begin with."""
        inputs = layer_inputs(self.layer.task, self.layer.state, self.layer.weight)(images)[0].detach()
        steady = self.layer.steady_units(inputs)
        ratio = mixture.mixing / torch.where(self.scale == 0, torch.inf, self.scale)[:, None]
        lengths = ratio.sum(dim=0) / (ratio != 0).sum(dim=0).clamp_min(1)
        lengths = lengths * (mixture.features * inputs).sum(dim=1) / inputs.square().sum(dim=1)
        summands = lengths[:, None] * inputs
        if self.channel_steps:
            masks = (ratio != 0).to(inputs)
            off = (normalize(mixture.features) - normalize(inputs)).norm(dim=1)
            doubts = (DOUBT * off).clamp(*DOUBT_RANGE)
            found = hidden_mixture(self.observation, self.layer, self.scale, masks, summands, doubts, steady)
        else:
            found = seen_mixture(self.layer.gradient[self.layer.weight], self.scale, summands, steady)
        return found if found.is_sound() else mixture


def search_images(
    layer: SeenLayer,
    mixture: Mixture,
    search: FeatureInversion,
    start: Tensor,
    progress: Callable[[float], None],
    usual: float | None,
) -> tuple[Tensor, Tensor, list[float]]:
    """The images (B, C, *spatial) whose features are the mixture's, their labels (B,), and the search's objective."""
    lengths, labels = layer.lengths(mixture.features, len(start) * mixture.mixing, usual)
    inputs = lengths[:, None] * mixture.features
    if layer.sees_pixels:
        return inputs.reshape(-1, *layer.task.image_shape), labels, []
    precision = None if mixture.precision is None else mixture.precision / lengths[:, None].square()
    features = layer_inputs(layer.task, layer.state, layer.weight)
    images, values = search(features, lambda _: inputs, layer.task.image_shape, start.to(inputs), progress, precision)
    return images, labels, values


def _part(progress: Callable[[float], None], done: float, size: float, total: float) -> Callable[[float], None]:
    """Progress through one part of the work."""
    return lambda share: progress((done + size * share) / total)
