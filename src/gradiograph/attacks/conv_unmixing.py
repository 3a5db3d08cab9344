"""Solving for each film's features in a deep network, from the gradients of its last convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from gradiograph.attacks.conv_layers import ConvLayer, ConvNetwork
from gradiograph.attacks.film_latent import FilmLatent
from gradiograph.attacks.kernel_gradient import FilmMaps, film_maps
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.attacks.seen_gradient import SeenGradient
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task

TOLERANCES = ((0.3, 1 / 6), (0.1, 1 / 3), (0.03, 1 / 2))
"""How far features may be off, as a share of their length, in each part of the search, and its share of the steps."""
BRIGHTEST = log(2)
STEPS_OF_BRIGHTNESS = 29
SIZE_ERROR = 0.05
"""How well the length of a gradient is taken to be known, as a share."""
TELLS = 0.3
"""A gradient tells brightness that grows by this power of it at least; by 1 without normalisation, by 0 with it."""


@register("attack", "conv_unmixing")
@dataclass(frozen=True, kw_only=True)
class ConvUnmixing(Attack):
    """Each film's inputs to the last convolutions, by linear algebra, and the films that have them.

    See `kernel_gradient`: it takes no labels, any classes, any layers above, and any normalisation, BatchNorm in train
    mode as well. The films are then searched for which the network has these inputs, up to their length, in the latent
    of a prior or a generator and around it. Their labels are those whose slopes point along the ones that were found;
    their brightness is that at which the gradient is as long as it is, weighed with what films have. Networks that
    normalise do not tell it.

    A trained network hardly answers to a film that it is sure of, and where rounding or noise buries that answer the
    film is not told; the others are.

    Flags: "approximate": the update sums several local steps. "partial": fewer images are told than there are; the
    others are what the prior takes them for, and no labels are returned. "unresolved": no image is told at any layer;
    every image is the prior's mean.

    Args:
        prior: A file that `gradiograph prior train` wrote.
        generator: One that `gradiograph prior train --kind generator` wrote, in its place.
        layers: Of those that tell the films apart, how many are used, those next to the image first.
        steps: Gradients of the search, about. 240 was chosen on validation films: with more, and closer to the
            features, the pictures gain grain.
    """

    prior: Path | None = None
    generator: Path | None = None
    layers: Annotated[int, Field(ge=1)] = 3
    steps: Annotated[int, Field(ge=6)] = 240

    def __post_init__(self) -> None:
        if (self.prior is None) == (self.generator is None):
            msg = "attack 'conv_unmixing' searches the latent of a prior or of a generator. Give one of them."
            raise BadSetting(msg)

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of images and the protocol, and public data for the prior."""
        return ("knows_num_examples", "knows_protocol", "public_data")

    def check(self, task: Task) -> None:
        """The prior fits the images, and the model has a convolution that tells two of them apart.

        Raises:
            BadInput: it does not.
        """
        self._latent(task)
        _require_layers(task, ConvNetwork(task=task, state=task.state()), 2)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Take the gradients apart, then search the films; see `Attack.__call__`.

        Raises:
            BadSetting: no convolution can tell as many images apart.
        """
        observation.threat.require("conv_unmixing", *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        seen, latent = SeenGradient.of(observation), self._latent(task)
        network = ConvNetwork(task=task, state=seen.state)
        places = _require_layers(task, network, count)
        flags = ["approximate"] if (observation.local_steps or 1) > 1 else []
        known = self._known(seen, places, count, generator)
        start = latent.around().start(count, task.image_shape, generator).to(next(iter(seen.gradient.values())))
        targets: Tensor | None = None
        values: list[float] = []
        if known:
            search = FeatureSearch(network=network, latent=latent, steps=self.steps)
            images, values, known = search(known, start, progress)
            told, images = labelled(network, images, *known[0], latent)
            targets = told if len(told) == count else None
            flags += [] if len(told) == count else ["partial"]
        else:
            images = latent.around().images(torch.zeros_like(start), task.image_shape)
            flags.append("unresolved")
        return Reconstruction(
            images=images.float().cpu().clamp(0, 1).contiguous(),
            targets=targets,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _latent(self, task: Task) -> FilmLatent:
        if self.generator is not None:
            return FilmLatent.of_generator(self.generator, task.image_shape)
        assert self.prior is not None  # noqa: S101 - as __post_init__ saw to
        return FilmLatent.of_components(self.prior, task.image_shape)

    def _known(
        self, seen: SeenGradient, places: list[ConvLayer], count: int, generator: torch.Generator
    ) -> list[tuple[ConvLayer, FilmMaps]]:
        """What the layers next to the image tell: those among the first that tell the most images."""
        known: list[tuple[ConvLayer, FilmMaps]] = []
        for place in places:
            found = film_maps(seen.gradient[place.weight], count, place.sides, generator)
            if found is not None:
                most = max((len(maps.inputs) for _, maps in known), default=0)
                known = [] if len(found.inputs) > most else known
                known += [(place, found)] if len(found.inputs) >= most else []
            if len(known) == self.layers:
                break
        return known


@dataclass(frozen=True, kw_only=True)
class FeatureSearch:
    """The films whose inputs to some layers point where they should.

    Attributes:
        network: The model.
        latent: Where films are searched.
        steps: Gradients, about.
    """

    network: ConvNetwork
    latent: FilmLatent
    steps: int

    def __call__(
        self, known: list[tuple[ConvLayer, FilmMaps]], start: Tensor, progress: Callable[[float], None]
    ) -> tuple[Tensor, list[float], list[tuple[ConvLayer, FilmMaps]]]:
        """Search by the first layer, and then by all, whose maps are put into the first one's order.

        Returns:
            Images (B, C, H, W), not clamped, the objective after each part, and the maps in the images' order.
        """
        around, shape = self.latent.around(), self.network.task.image_shape
        exposure, variable = self.latent.exposure(1.0), start.clone().requires_grad_()
        used, values, done = known[:1], [], 0.0
        for part, (tolerance, share) in enumerate(TOLERANCES):
            if part == 1:
                with torch.no_grad():
                    used = self._matched(known, around.images(variable, shape))
            layers = [layer for layer, _ in used]
            wanted = [normalize(maps.inputs.flatten(1)) for _, maps in used]

            def closure(
                layers: list[ConvLayer] = layers, wanted: list[Tensor] = wanted, tolerance: float = tolerance
            ) -> Tensor:
                images = around.images(variable, shape)
                found = self.network.inputs(images, layers)
                off = [(a[: len(b)] - b).square().sum() * b.shape[1] for a, b in zip(found, wanted, strict=True)]
                data = torch.stack(off).sum() + 2 * exposure.surprise(images)
                value = data / tolerance**2 + variable.square().sum()
                (variable.grad,) = torch.autograd.grad(value, variable)
                return value.detach()

            lbfgs = LBFGS(learning_rate=1.0, inner_steps=round(share * self.steps), line_search=True)
            lbfgs.start([variable], 1)(closure, 0)
            values.append(float(closure()))
            done += share
            progress(done)
        return around.images(variable.detach(), shape), values, used

    def _matched(self, known: list[tuple[ConvLayer, FilmMaps]], images: Tensor) -> list[tuple[ConvLayer, FilmMaps]]:
        found = self.network.inputs(images, [layer for layer, _ in known])
        matched = []
        for inputs, (layer, maps) in zip(found, known, strict=True):
            alike = inputs[: len(maps.inputs)] @ normalize(maps.inputs.flatten(1)).T
            order = torch.from_numpy(linear_sum_assignment(-alike.numpy(force=True))[1])
            matched.append((layer, replace(maps, inputs=maps.inputs[order], slopes=maps.slopes[order])))
        return matched


def labelled(
    network: ConvNetwork, images: Tensor, layer: ConvLayer, maps: FilmMaps, latent: FilmLatent
) -> tuple[Tensor, Tensor]:
    """The labels (R,) of the images that are told, right but for their brightness, and the images made as bright.

    The label is the one whose slopes point most along those that were found. The gradient of one image, inputs times
    slopes, has a length; the brightness at which it is that long is weighed against the usual one. Where layers
    normalise by the whole batch, all images are made brighter by the same factor.

    Args:
        network: The model.
        images: (B, C, H, W), the R images of the maps first and in their order.
        layer: Where the maps are.
        maps: Inputs and slopes.
        latent: What films are like.
    """
    slopes = maps.slopes.flatten(1)
    expected = (slopes.norm(dim=1) * maps.inputs.flatten(1).norm(dim=1)).log()
    exposure = latent.exposure(1.0)
    classes = range(network.task.num_classes)
    told = len(slopes)
    along = [(normalize(network.slopes(images, k, layer)[1][:told]) * normalize(slopes)).sum(dim=1) for k in classes]
    labels = torch.stack(along).argmax(dim=0)
    factors = torch.linspace(-BRIGHTEST, BRIGHTEST, STEPS_OF_BRIGHTNESS).exp().tolist()
    lengths, unusual = [], []
    for factor in factors:
        shown = (factor * images).clamp(0, 1)
        each = torch.stack([_length(*network.slopes(shown, k, layer)) for k in classes])[:, :told]
        lengths.append(each.gather(0, labels[None])[0])
        unusual.append(torch.stack([exposure.surprise(image[None]) for image in shown[:told]]))
    seen = torch.stack(lengths)
    tells = seen[-1] - seen[0] > TELLS * 2 * BRIGHTEST
    total = torch.stack(unusual) + tells * (seen - expected).square() / (2 * SIZE_ERROR**2)
    if network.shares_statistics:
        total = total.mean(dim=1, keepdim=True).expand_as(total)
    best = total.argmin(dim=0)
    brightness = torch.ones(len(images)).to(images)
    brightness[:told] = images.new_tensor(factors)[best]
    return labels, images * brightness[:, None, None, None]


def _length(inputs: Tensor, slopes: Tensor) -> Tensor:
    """The logarithm of the length of each image's gradient, about."""
    length: Tensor = (inputs.norm(dim=1) * slopes.norm(dim=1)).log()
    return length


def _require_layers(task: Task, network: ConvNetwork, count: int) -> list[ConvLayer]:
    if task.segments:
        msg = f"attack 'conv_unmixing' reads films with one label each; task '{task.name}' segments. Choose 'map'."
        raise BadSetting(msg)
    places = network.layers(count)
    if not places:
        msg = (
            f"attack 'conv_unmixing' needs a trained convolution of stride 1 behind a ReLU, with more input channels "
            f"than {count} images have positions there; task '{task.name}' has none for images of {task.image_shape}. "
            "Choose smaller batches or another attack, such as 'map'."
        )
        raise BadSetting(msg)
    return places
