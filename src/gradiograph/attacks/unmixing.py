"""Solving for all images of a batch: the gradient of a dense layer, unmixed and inverted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.attacks.dense_layer import SeenLayer, first_dense_layer
from gradiograph.attacks.eigen import EigenPrior, load_prior
from gradiograph.attacks.feature_inversion import FeatureInversion, layer_inputs
from gradiograph.attacks.imputation import completed, expected_update, hides
from gradiograph.attacks.mixture import ALL_MASKS, CLEAN, Mixture, fit_masks, row_space, unmix
from gradiograph.core.attack import Attack
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task

PREVIEW = 0.5
"""Steps of the searches between two fits of the masks, as a share of all."""
SURE = 1e-4
"""Smallest variance of the belief around the images found, as a share of the update's mean square."""


@register("attack", "unmixing")
@dataclass(frozen=True, kw_only=True)
class Unmixing(Attack):
    """The inputs of the first dense layer as the extreme rays of the nonnegative cone in its gradient's row space.

    For inputs that are not negative, as after a ReLU, any number of classes and any head above: see `cone`. Under noise
    and a two-class head behind a ReLU, the masks of the units are fitted as well: see `mixture`. The images are then
    searched that have these inputs, with the noise's precision and, if a prior is given, its density; and the masks
    are fitted again to the features of the images found. A channel that hides values, as quantisers, sparsifiers and
    signs do, is undone in expectation: see `imputation`. No labels are used.

    Flags: "approximate": the update sums several local steps. "partial": the row space holds no nonnegative vectors;
    every image is the prior's mean.

    Args:
        prior: A file written by `gradiograph prior train`; None searches the pixels alone.
        steps: Of the search for the images.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
        refits: How often, under noise, masks are fitted again.
        completions: How often what the channel hid is filled in before the masks are first fitted; 0 takes what was
            seen as the update plus noise, the attacker who does not know the defence.
    """

    prior: Path | None = None
    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.06
    tv: Annotated[float, Field(ge=0)] = 1e-7
    refits: Annotated[int, Field(ge=0)] = 2
    completions: Annotated[int, Field(ge=0)] = 3

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
        gradient, scale = layer.gradient[layer.weight], layer.two_class_scale()
        noisy = row_space(gradient, count).share >= CLEAN
        hidden = noisy and self.completions > 0 and hides(observation, layer.weight, count)
        if hidden:
            gradient = layer.as_gradient(completed(observation, layer.weight, count, scale, self.completions))
        start = 0.5 + 0.01 * torch.randn(count, 1, *task.image_shape[1:], generator=generator)
        search = FeatureInversion(
            steps=self.steps, learning_rate=self.learning_rate, tv=self.tv, prior=self._load(task)
        )
        flags = ["approximate"] if (observation.local_steps or 1) > 1 else []
        mixture = unmix(gradient, count, scale, generator)
        targets: Tensor | None = None
        values: list[float] = []
        if mixture is None:
            prior = search.prior
            mean = start if prior is None else prior.images(torch.zeros(count, len(prior.std)))
            images = mean.expand(-1, task.image_shape[0], -1, -1)
            flags.append("partial")
        else:
            refits = self.refits if noisy and scale is not None and count <= ALL_MASKS else 0
            total = 1 + PREVIEW * refits
            quick = replace(search, steps=max(1, round(PREVIEW * self.steps)))
            for refit in range(refits):
                images, _, _ = _search(
                    layer, mixture, quick, start, _part(progress, refit * PREVIEW, PREVIEW, total), noisy=noisy
                )
                mixture = _refitted(observation, layer, mixture, gradient, images, hidden=hidden)
            last = _part(progress, total - 1, 1.0, total)
            images, targets, values = _search(layer, mixture, search, start, last, noisy=noisy)
        return Reconstruction(
            images=images.float().cpu().clamp(0, 1).contiguous(),
            targets=targets,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _load(self, task: Task) -> EigenPrior | None:
        return None if self.prior is None else load_prior(self.prior, task.image_shape)


def _refitted(
    observation: Observation,
    layer: SeenLayer,
    mixture: Mixture,
    gradient: Tensor,
    images: Tensor,
    *,
    hidden: bool,
) -> Mixture:
    """The masks and features again, with the features of the images found to begin with.

    What the channel hid is expected again as well, around the mixture with these features.
    """
    scale = layer.two_class_scale()
    if scale is None:
        return mixture
    inputs = layer_inputs(layer.task, layer.state, layer.weight)(images)[0].detach()
    features, steady = inputs / inputs.mean(dim=1, keepdim=True), layer.steady_units(inputs)
    mixture = fit_masks(gradient, scale, features, steady, sweeps=1)
    if not hidden:
        return mixture
    mean = layer.as_update(mixture.mixing @ features)
    off = layer.as_update(mixture.mixing @ (mixture.features - features)).square().mean(dim=1, keepdim=True)
    spread = off.clamp_min(SURE * float(mean.square().mean()))
    filled = layer.as_gradient(expected_update(observation, layer.weight, mean, spread))
    return fit_masks(filled, scale, features, steady, sweeps=1)


def _search(
    layer: SeenLayer,
    mixture: Mixture,
    search: FeatureInversion,
    start: Tensor,
    progress: Callable[[float], None],
    *,
    noisy: bool,
) -> tuple[Tensor, Tensor, list[float]]:
    """The images (B, C, *spatial) whose features are the mixture's, their labels (B,), and the search's objective."""
    count = len(start)
    lengths, labels = layer.lengths(mixture.features, count * mixture.mixing)
    inputs = lengths[:, None] * mixture.features
    if layer.sees_pixels:
        return inputs.reshape(-1, *layer.task.image_shape), labels, []
    precision = None
    if noisy:
        mixing = mixture.mixing / lengths
        precision = mixing.T @ mixing / mixture.noise**2
    features = layer_inputs(layer.task, layer.state, layer.weight)
    images, values = search(features, lambda _: inputs, layer.task.image_shape, start.to(inputs), progress, precision)
    return images, labels, values


def _part(progress: Callable[[float], None], done: float, size: float, total: float) -> Callable[[float], None]:
    """Progress through one part of the work."""
    return lambda share: progress((done + size * share) / total)
