"""R-GAP: the input of every layer solved for, from the last layer to the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from gradiograph.attacks.convolution_system import convolution_input
from gradiograph.attacks.dense_layer import SeenLayer
from gradiograph.attacks.layer_chain import layer_chain
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.layer_chain import Link
    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

MAX_UNKNOWNS = 8192
"""The largest input of a convolution whose system is formed; as a square matrix it takes 0.5 GB."""
TINY = torch.finfo(torch.float64).tiny
"""Keeps a quotient finite where no unit of a layer fires."""
CLOSE = 2.0
"""Solutions whose residuals differ by a smaller factor are not told apart."""


@register("attack", "r_gap", paper="Zhu and Blaschko 2021, arXiv 2010.07733")
@dataclass(frozen=True, kw_only=True)
class RGap(Attack):
    """One image behind one gradient, solved for layer by layer (Zhu and Blaschko 2021, section 3).

    The gradient of the last dense layer gives its input x and the slope of the loss at its outputs. From there to the
    first layer: the activation's inverse turns x into the outputs z of the layer before; the slope is carried back;
    the input of that layer is the least-squares solution of its weight constraints, W x + b = z, and its gradient
    constraints, dL/dW = slope times x. Where these do not determine an input, the rank analysis of section 4, the
    solution is one of many and the flag "rank deficient" is set; its worst layer decides about the image. Errors grow
    from layer to layer.

    Differs from the paper: the ranks are those of the systems themselves, not their index. The last layer's input comes
    from its bias where it has one; without, its length is that at which the loss has this slope: for any number of
    classes, see `input_scale.input_scales`. A dense layer's input is read off its own gradient. Outputs at which a ReLU
    is 0 make no weight constraint. "ambiguous": inputs of several lengths explain the gradient; the best is returned.

    Args:
        tolerance: Singular values of a system below this share of the largest count as zero.
    """

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-8

    @property
    def requires(self) -> tuple[str, ...]:
        """That there is one image; the protocol, for the size of the gradient."""
        return ("knows_num_examples", "knows_protocol")

    def check(self, task: Task) -> None:
        """The model is a plain chain of layers, small enough for its systems.

        Raises:
            BadSetting: it is not.
        """
        for link in layer_chain("r_gap", task):
            unknowns = prod(link.input_shape)
            if isinstance(link.layer, nn.Conv2d) and unknowns > MAX_UNKNOWNS:
                msg = (
                    f"attack 'r_gap' solves for all inputs of a convolution at once; '{link.name}' of task "
                    f"'{task.name}' has {unknowns}, allowed are {MAX_UNKNOWNS}. Reduce data.image_size or the channels."
                )
                raise BadSetting(msg)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Solve; see `Attack.__call__`.

        Raises:
            BadSetting: there are several images or several local steps behind the update.
        """
        observation.threat.require("r_gap", *self.requires)
        started = perf_counter()
        steps, task = observation.local_steps or 1, observation.task
        if observation.num_examples > 1 or steps > 1:
            msg = (
                "attack 'r_gap' solves for one image behind one gradient; here are "
                f"{observation.num_examples} images and {steps} local steps. "
                "Set victims.size = 1 and protocol 'fedsgd', or choose another attack, such as 'analytic' or 'rog'."
            )
            raise BadSetting(msg)
        links = layer_chain("r_gap", task)
        seen = SeenLayer.of(observation, f"{links[-1].name}.weight", generator)
        last = replace(seen, state=_exact(seen.state), gradient=_exact(seen.gradient), probes=seen.probes.double())
        inputs, labels = last.one_input(observation.labels)
        found: list[_Solution] = []
        for x in inputs:
            found.append(_solve(links, last, x, self.tolerance))
            progress(len(found) / len(inputs))
        misfits = [solution.misfit for solution in found]
        best = misfits.index(min(misfits))
        flags = [] if sorted([*misfits, float("inf")])[1] > CLOSE * misfits[best] else ["ambiguous"]
        flags += ["rank deficient"] if found[best].deficient else []
        return Reconstruction(
            images=found[best].image.clamp(0, 1).float().cpu(),
            targets=None if labels is None else labels[best : best + 1],
            objective=found[best].residuals,
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )


@dataclass(frozen=True, kw_only=True)
class _Solution:
    """What one candidate for the last layer's input leads to.

    Attributes:
        image: (1, C, H, W), not clamped.
        residuals: Of each convolution's system, relative, from the last to the first.
        misfit: The residuals and the share of the image outside [0, 1].
        deficient: Whether some system does not determine its unknowns.
    """

    image: Tensor
    residuals: tuple[float, ...]
    misfit: float
    deficient: bool


def _solve(links: tuple[Link, ...], last: SeenLayer, x: Tensor, tolerance: float) -> _Solution:
    """The image, from the input (D,) of the last layer."""
    state, gradient = last.state, last.gradient
    slope = _dense_slope(gradient, links[-1].name, gradient[last.weight] @ x / x.square().sum())
    residuals: list[float] = []
    deficient = False
    for link, after in zip(links[-2::-1], links[:0:-1], strict=True):
        z, bend, known = link.invert(x.reshape(link.output_shape))
        slope = _back(after, state[f"{after.name}.weight"], slope).reshape(link.output_shape) * bend
        weight = state[f"{link.name}.weight"]
        if isinstance(link.layer, nn.Linear):
            slope = _dense_slope(gradient, link.name, slope)
            x = slope @ gradient[f"{link.name}.weight"] / slope.square().sum().clamp_min(TINY)
        else:
            offset = state[f"{link.name}.bias"][:, None, None] if f"{link.name}.bias" in state else 0.0
            x, residual, rank = convolution_input(
                link, weight, z - offset, known, slope, gradient[f"{link.name}.weight"], tolerance
            )
            deficient = deficient or rank < len(x)
            residuals.append(residual)
    image = x.reshape(1, *last.task.image_shape)
    outside = float((image - image.clamp(0, 1)).norm() / image.norm().clamp_min(TINY))
    return _Solution(image=image, residuals=tuple(residuals), misfit=sum(residuals) + outside, deficient=deficient)


def _exact(tensors: Tensors) -> Tensors:
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _dense_slope(gradient: Tensors, name: str, slope: Tensor) -> Tensor:
    """The slope at a dense layer's outputs (U,): its bias's gradient, where one was sent."""
    return gradient.get(f"{name}.bias", slope)


def _back(link: Link, weight: Tensor, slope: Tensor) -> Tensor:
    """The slope at a layer's inputs, from that at its outputs."""
    if isinstance(link.layer, nn.Linear):
        return slope @ weight
    return link.transpose(slope[None], weight)[0]
