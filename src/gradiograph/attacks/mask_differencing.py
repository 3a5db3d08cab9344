"""Solving for the films: rows of a dense layer's gradient that differ by one film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from gradiograph.attacks.feature_inversion import FeatureInversion, layer_inputs
from gradiograph.attacks.likelihoods import seen_update
from gradiograph.attacks.subset_sums import find_summands
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task


@register("attack", "mask_differencing")
@dataclass(frozen=True, kw_only=True)
class MaskDifferencing(Attack):
    """Exact features of single films from the gradient of a dense ReLU layer below a two-class head.

    Row j of the layer's gradient is d_j sum_b r_b m_jb h_b: d_j is the difference of the head's two weights of unit j,
    which the server knows; r_b the residual of film b; m_jb whether unit j fires for film b; h_b >= 0 its inputs.
    Divided by d_j, in the row space of rank B, the rows are subset sums of the B vectors r_b h_b. These are found as
    the vectors of one sign of which all rows are sums with coefficients 0 or 1; then each film is searched that has
    these inputs to the layer. No labels are used: the sign of a summand is the film's class.

    Assumes full-batch local steps whose masks hardly change. Where fewer summands than films explain the rows, the
    missing films are inverted from the sum of all and the flag "partial" is set.

    Args:
        steps: Of the feature inversion.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
    """

    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    tv: Annotated[float, Field(ge=0)] = 1e-6

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of films, and the protocol for the length of a summand."""
        return ("knows_num_examples", "knows_protocol")

    def check(self, task: Task) -> None:
        """The model ends in a dense layer, ReLU, and a dense head with two outputs.

        Raises:
            BadSetting: it does not.
        """
        dense_and_head(task)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Solve for the summands, then invert them; see `Attack.__call__`."""
        observation.threat.require("mask_differencing", *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        state, update = observation.rounds[0]
        dense, head = dense_and_head(task)
        seen = seen_update(observation)
        share = 0.5 if update.kind == "delta" else 0.0
        middle = {name: state[name].detach() + share * seen[name] if name in seen else state[name] for name in state}
        summands, found = find_summands(seen[dense], middle[head][0] - middle[head][1], count)
        # An update is minus a gradient; the residual is negative for the class whose head weight comes first.
        sign = -1.0 if update.kind == "delta" else 1.0
        targets = (sign * summands.sum(dim=1) > 0).long()
        step = (observation.local_learning_rate or 1.0) * (observation.local_steps or 1) / count

        def wanted(outputs: Tensor) -> Tensor:
            residual = 1 - outputs.softmax(dim=1).gather(1, targets[:, None])
            return summands.abs() / (step * residual)

        start = 0.5 + 0.01 * torch.randn(count, 1, *task.image_shape[1:], generator=generator)
        inversion = FeatureInversion(steps=self.steps, learning_rate=self.learning_rate, tv=self.tv)
        features = layer_inputs(task, middle, dense)
        images, values = inversion(features, wanted, task.image_shape, start.to(summands), progress)
        return Reconstruction(
            images=images,
            targets=targets,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=() if found == count else ("partial",),
        )


def dense_and_head(task: Task) -> tuple[str, str]:
    """The names of the weights of the last two dense layers, the second being a trainable two-class head.

    Raises:
        BadSetting: the model has no such layers, or the first is not trained.
    """
    layers = [(name, layer) for name, layer in task.model.named_modules() if isinstance(layer, nn.Linear)]
    fits = len(layers) >= 2 and layers[-1][1].out_features == 2 and f"{layers[-2][0]}.weight" in task.trainable
    if not fits or layers[-1][1].in_features != layers[-2][1].out_features:
        msg = (
            f"mask_differencing needs a trained dense layer below a head with two outputs; task '{task.name}' has "
            f"{len(layers)} dense layers and {task.num_classes} classes. Choose another attack, such as 'rog'."
        )
        raise BadSetting(msg)
    return f"{layers[-2][0]}.weight", f"{layers[-1][0]}.weight"
