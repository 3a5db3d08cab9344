"""Solving for each film's features in a deep network, from the gradients of its last convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.attacks.conv_layers import ConvLayer, ConvNetwork
from gradiograph.attacks.feature_search import FeatureSearch, labelled
from gradiograph.attacks.film_latent import FilmLatent
from gradiograph.attacks.kernel_gradient import FilmMaps, film_maps
from gradiograph.attacks.seen_gradient import SeenGradient
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task


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

    What the latent lacks of a film has the spectrum that public films show; where the audit has none of some class, its
    pixels are independent of each other.

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
        around = latent.around(observation.public.images if observation.public else None)
        start = around.start(count, task.image_shape, generator).to(next(iter(seen.gradient.values())))
        targets: Tensor | None = None
        values: list[float] = []
        if known:
            exposure = latent.exposure(1.0)
            search = FeatureSearch(network=network, around=around, exposure=exposure, steps=self.steps)
            images, values, known = search(known, start, progress)
            told, images = labelled(network, images, *known[0], exposure)
            targets = told if len(told) == count else None
            flags += [] if len(told) == count else ["partial"]
        else:
            images = around.images(torch.zeros_like(start), task.image_shape)
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
