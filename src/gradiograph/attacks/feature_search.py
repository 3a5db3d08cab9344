"""From features of several layers back to the films that have them, their labels and their brightness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from gradiograph.attacks.conv_layers import ConvLayer, ConvNetwork
from gradiograph.attacks.exposure import Exposure
from gradiograph.attacks.kernel_gradient import FilmMaps
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.attacks.parametrisations import Around

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCES = ((0.3, 1 / 6), (0.1, 1 / 3), (0.03, 1 / 2))
"""How far features may be off, as a share of their length, in each part of the search, and its share of the steps."""
BRIGHTEST = log(2)
STEPS_OF_BRIGHTNESS = 29
SIZE_ERROR = 0.05
"""How well the length of a gradient is taken to be known, as a share."""
TELLS = 0.3
"""A gradient tells brightness that grows by this power of it at least; by 1 without normalisation, by 0 with it."""


@dataclass(frozen=True, kw_only=True)
class FeatureSearch:
    """The films whose inputs to some layers point where they should.

    Attributes:
        network: The model.
        around: Where films are searched.
        exposure: What is known of their brightness and contrast.
        steps: Gradients, about.
    """

    network: ConvNetwork
    around: Around
    exposure: Exposure
    steps: int

    def __call__(
        self, known: list[tuple[ConvLayer, FilmMaps]], start: Tensor, progress: Callable[[float], None]
    ) -> tuple[Tensor, list[float], list[tuple[ConvLayer, FilmMaps]]]:
        """Search by the first layer, and then by all, whose maps are put into the first one's order.

        Returns:
            Images (B, C, H, W), not clamped, the objective after each part, and the maps in the images' order.
        """
        around, shape = self.around, self.network.task.image_shape
        variable = start.clone().requires_grad_()
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
                data = torch.stack(off).sum() + 2 * self.exposure.surprise(images)
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
    network: ConvNetwork, images: Tensor, layer: ConvLayer, maps: FilmMaps, exposure: Exposure
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
        exposure: What is known of films' brightness and contrast.
    """
    slopes = maps.slopes.flatten(1)
    expected = (slopes.norm(dim=1) * maps.inputs.flatten(1).norm(dim=1)).log()
    classes, told = range(network.task.num_classes), len(slopes)
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
