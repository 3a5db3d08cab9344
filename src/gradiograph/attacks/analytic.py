"""The input of a dense layer, solved for from the layer's own gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.attacks.dense_layer import SeenLayer, first_dense_layer
from gradiograph.attacks.feature_inversion import FeatureInversion, layer_inputs
from gradiograph.core.attack import Attack
from gradiograph.core.registry import register
from gradiograph.core.task import copy_buffers, mean_gradient
from gradiograph.core.tensors import Batch, Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task

MEMORY = 0.9
"""Adam's memory for the squared slopes: at 3 x 128 x 128, 200 steps end at 70 dB with 0.9 and at 34 dB with 0.999."""
PREVIEW = 4
"""Several candidates are told apart by searches of this many times fewer steps."""
CLOSE = 2.0
"""Candidates whose misfits to the whole gradient differ by a smaller factor are not told apart."""


@register("attack", "analytic", paper="Geiping et al. 2020, arXiv 2003.14053")
@dataclass(frozen=True, kw_only=True)
class Analytic(Attack):
    """The input x of the first trained dense layer, from dL/dW = delta x^T and dL/db = delta.

    With a bias, one image's input is dL/dW^T dL/db / |dL/db|^2: each row divided by its entry of the bias's gradient
    (Phong et al. 2018, eprint 2017/715, section 3; Geiping et al. 2020, proposition 3.1), weighted by its precision.
    Without one, it is the leading right singular vector of dL/dW, as long as the network above makes this gradient of
    it: see `input_scale.input_scales`. Of several images, with a bias, those are found for which units fire alone:
    see `pure_units.pure_rows`, and below a ReLU and a head with two outputs `subset_sums.find_summands`.

    Where the layer sees the pixels, its input is the image. Elsewhere the image is taken to be grey and is searched:
    see `feature_inversion.FeatureInversion`.

    Flags: "approximate": the update sums several local steps, whose inputs and slopes differ a little. "partial": some
    image was not found; in its place stands the mean of the rows. "ambiguous": inputs of several lengths explain the
    whole update about equally well; the best is returned.

    Args:
        steps: Of the search.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
        agreement: The largest distance between two rows that hold the same image, as unit vectors.
    """

    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.06
    tv: Annotated[float, Field(ge=0)] = 1e-6
    agreement: Annotated[float, Field(gt=0, lt=1)] = 1e-6

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of images; the protocol, for the number of local steps and the size of the gradient."""
        return ("knows_num_examples", "knows_protocol")

    def check(self, task: Task) -> None:
        """A dense layer is trained and is called once, on one vector for each image.

        Raises:
            BadSetting: there is none.
        """
        first_dense_layer(task)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Solve for the layer's inputs, then find the images; see `Attack.__call__`.

        Raises:
            BadSetting: several images are behind the update of a layer without a trained bias.
        """
        observation.threat.require("analytic", *self.requires)
        started = perf_counter()
        count, labels = observation.num_examples, None
        layer = SeenLayer.of(observation, first_dense_layer(observation.task), generator)
        flags = ["approximate"] if (observation.local_steps or 1) > 1 else []
        if count == 1:
            inputs, labels = layer.one_input(observation.labels)
        else:
            inputs, found = layer.several_inputs(count, self.agreement)
            flags += ["partial"] if found < count else []
        start = 0.5 + 0.01 * torch.randn(len(inputs), 1, *layer.task.image_shape[1:], generator=generator)
        first = 0.0
        if labels is not None and len(inputs) > 1:
            first = 0.5
            steps = ceil(self.steps / PREVIEW)
            images, _ = self._images(layer, inputs, start, steps, lambda share: progress(first * share))
            place, clear = _nearest(layer, images, labels)
            inputs, labels, start = inputs[place], labels[place], start[place]
            flags += [] if clear else ["ambiguous"]
        images, values = self._images(
            layer, inputs, start, self.steps, lambda share: progress(first + (1 - first) * share)
        )
        return Reconstruction(
            images=images.float().cpu(),
            targets=labels,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _images(
        self, layer: SeenLayer, inputs: Tensor, start: Tensor, steps: int, progress: Callable[[float], None]
    ) -> tuple[Tensor, list[float]]:
        """Images (n, C, *spatial) whose inputs to the layer are these (n, D), and the search's objective."""
        shape = layer.task.image_shape
        if layer.sees_pixels:
            progress(1.0)
            return inputs.reshape(-1, *shape).clamp(0, 1), []
        search = FeatureInversion(steps=steps, learning_rate=self.learning_rate, tv=self.tv, memory=MEMORY)
        features = layer_inputs(layer.task, layer.state, layer.weight)
        return search(features, lambda outputs: inputs, shape, start.to(inputs), progress)


def _nearest(layer: SeenLayer, images: Tensor, labels: Tensor) -> tuple[slice, bool]:
    """The candidate (as a slice) whose gradient is nearest to the one seen, and whether it is so by far."""
    misfits: list[float] = []
    for image, label in zip(images, labels.to(images.device), strict=True):
        state = {**layer.state, **copy_buffers(layer.task, layer.state)}
        gradient = mean_gradient(layer.task, state, Batch(image[None], label[None]))
        # Each tensor counts alike: the layer itself is explained by every candidate, and is the largest.
        errors = [
            float((gradient[name] - seen).square().sum() / seen.square().sum().clamp_min(1e-30))
            for name, seen in layer.gradient.items()
        ]
        misfits.append(sum(errors) / len(errors))
    best = misfits.index(min(misfits))
    return slice(best, best + 1), sorted([*misfits, float("inf")])[1] > CLOSE * misfits[best]
