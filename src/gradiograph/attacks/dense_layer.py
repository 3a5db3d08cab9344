"""A dense layer as the server sees it: its gradient, and the inputs that this gradient tells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import log
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from gradiograph.attacks.feature_inversion import layer_inputs
from gradiograph.attacks.hidden import forgets_size
from gradiograph.attacks.input_scale import AS_GOOD, input_scales, outputs_above, slopes_above
from gradiograph.attacks.pure_units import pure_rows
from gradiograph.attacks.seen_gradient import SeenGradient
from gradiograph.attacks.subset_sums import find_summands
from gradiograph.core.errors import BadSetting
from gradiograph.core.factored import DenseCalls

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

NOISY = 0.1
"""How much larger than the smallest a relative misfit of slopes may be that noise can have made."""
PROBES = 4
"""Noise images on which the size and the sign of the layer's inputs are measured."""


def first_dense_layer(task: Task) -> str:
    """The name of the weight of the first trained dense layer that is called once, on inputs (B, D).

    Raises:
        BadSetting: there is none.
    """
    state = task.state()
    dense = [f"{name}.weight" for name, layer in task.model.named_modules() if isinstance(layer, nn.Linear)]
    weights = {name: state[name] for name in dense if name in task.trainable}
    with torch.no_grad(), DenseCalls(weights, {}) as calls:
        task.forward(state, torch.zeros(2, *task.image_shape).to(next(iter(state.values()))))
    for name in weights:
        if [inputs.ndim for inputs in calls.inputs[name]] == [2]:
            return name
    msg = (
        f"The attack needs a trained dense layer that is called once, on one vector for each image; task "
        f"'{task.name}' has {len(dense)} dense layers, of which {len(weights)} train and none is called so. "
        "Choose another attack, such as 'rog'."
    )
    raise BadSetting(msg)


@dataclass(frozen=True, kw_only=True)
class SeenLayer:
    """What the server holds of one dense layer with U units and D inputs.

    Attributes:
        task: Model and loss.
        state: All tensors by name, in the middle of the client's path, where one gradient stands for all local steps:
            see `replay.midpoint`.
        gradient: By name, the update as the mean gradient over the local steps.
        scale: The update over the mean gradient: minus the local learning rate times the local steps, 1 for a gradient.
        weight: The name of the layer's weight.
        probes: (PROBES, D), the layer's inputs on noise images.
        sees_pixels: Whether these are the noise images themselves.
        sizeless: Whether the channel forgets the update's size, as signs without a scale do. It is then taken to be
            that of a noise image's gradient.
    """

    task: Task
    state: Tensors
    gradient: Tensors
    scale: float
    weight: str
    probes: Tensor
    sees_pixels: bool
    sizeless: bool = False

    @classmethod
    def of(cls, observation: Observation, weight: str, generator: torch.Generator) -> SeenLayer:
        """The layer with this weight in the first round of an observation whose protocol is known.

        Raises:
            BadSetting: the update of this weight is zero.
        """
        seen = SeenGradient.of(observation)
        if not bool(seen.gradient[weight].any()):
            msg = (
                f"The update of '{weight}' of task '{observation.task.name}' is zero everywhere: there is nothing to "
                "solve for. Use weights whose units fire for the images, or another attack, such as 'rog'."
            )
            raise BadSetting(msg)
        middle, gradient, scale = seen.state, seen.gradient, seen.scale
        noise = torch.rand(PROBES, *observation.task.image_shape, generator=generator).to(gradient[weight])
        probes = layer_inputs(observation.task, middle, weight)(noise)[0].detach()
        sizeless = forgets_size(observation, weight)
        if sizeless:
            slopes = slopes_above(observation.task, middle, weight, probes @ middle[weight].T, 0)
            size = float(gradient[weight].norm() / (slopes.norm(dim=1) * probes.norm(dim=1)).mean())
            scale, gradient = scale * size, {name: tensor / size for name, tensor in gradient.items()}
        return cls(
            task=observation.task,
            state=middle,
            gradient=gradient,
            scale=scale,
            weight=weight,
            probes=probes,
            sees_pixels=torch.equal(probes, noise.flatten(1)),
            sizeless=sizeless,
        )

    @property
    def bias_gradient(self) -> Tensor | None:
        """(U,), None where the layer has no bias that trains."""
        return self.gradient.get(bias_of(self.weight))

    def one_input(self, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The inputs (n, D) that one image can have had, best first, and the label of each (n,) where it was needed.

        Args:
            labels: (1,) where the threat model grants it.
        """
        rows, slopes = self.gradient[self.weight], self.bias_gradient
        if slopes is not None and bool(slopes.any()):
            return (slopes @ rows / slopes.square().sum())[None], None
        direction, one_signed = _leading_row(rows), bool((self.probes >= 0).all())
        if one_signed and float(direction.sum()) < 0:
            direction = -direction
        left = rows @ direction
        names = range(max(2, self.task.num_classes)) if labels is None else labels.tolist()
        found = [
            (off, c, label)
            for label in names
            for c, off in self._lengths(direction, left, label, one_signed=one_signed)
        ]
        found = [entry for entry in sorted(found) if entry[0] <= min(found)[0] + AS_GOOD]
        lengths = torch.tensor([c for _, c, _ in found]).to(direction)
        return lengths[:, None] * direction, torch.tensor([label for _, _, label in found])

    def _lengths(
        self, direction: Tensor, left: Tensor, label: int, *, one_signed: bool, slack: float = AS_GOOD
    ) -> list[tuple[float, float]]:
        slope = self.state[self.weight] @ direction
        offset = self.state.get(bias_of(self.weight), torch.zeros_like(slope))
        # A slope of exactly zero says that the unit was found not to fire; noise in the direction may contradict it.
        fires = left != 0
        return input_scales(
            lambda c: slopes_above(self.task, self.state, self.weight, c[:, None] * slope + offset, label)[:, fires],
            left[fires],
            float(self.probes.norm(dim=1).mean()),
            (1.0,) if one_signed else (1.0, -1.0),
            slack,
        )

    def as_gradient(self, update: Tensor) -> Tensor:
        """What part of an update says of the mean gradient."""
        return update / self.scale

    def as_update(self, gradient: Tensor) -> Tensor:
        """The update that a mean gradient makes."""
        return gradient * self.scale

    def steady_units(self, inputs: Tensor) -> Tensor:
        """Which units (U,), 1.0 or 0.0, fire or not for each of these inputs (B, D) all along the client's path."""
        middle = inputs @ self.state[self.weight].T + self.state.get(bias_of(self.weight), 0.0)
        drift = self.scale * (inputs @ self.gradient[self.weight].T)
        return (middle.abs() > 0.75 * drift.abs()).all(dim=0).to(inputs)

    def lengths(self, features: Tensor, slopes: Tensor, usual: float | None = None) -> tuple[Tensor, Tensor]:
        """How long each of several inputs is, and which label explains its slopes best.

        Args:
            features: (B, D), each up to its length, not negative.
            slopes: (U, B), the slopes of each image's own loss at the layer's outputs, times that length.
            usual: The length of films' inputs, to be expected of these; None is that of noise images' inputs. Where the
                update is without a size, all are taken to have it.

        Returns:
            Factors (B,) of the features, and labels int64 (B,).
        """
        found = []
        expected = float(self.probes.norm(dim=1).mean()) if usual is None else usual
        for feature, slope in zip(features, slopes.T, strict=True):
            size = feature.norm()
            if self.sizeless:
                found.append((expected / float(size), self._likeliest(feature * expected / size, slope)))
                continue
            tried = [
                (off, c, label)
                for label in range(max(2, self.task.num_classes))
                for c, off in self._lengths(feature / size, slope * size, label, one_signed=True, slack=NOISY)
            ]
            least = min(off for off, _, _ in tried)
            # A long input that is classified well can explain a short one's slopes: the usual length is the likelier.
            _, length, label = min(
                (entry for entry in tried if entry[0] <= least + NOISY), key=lambda entry: abs(log(entry[1] / expected))
            )
            found.append((length / float(size), label))
        factors, labels = zip(*found, strict=True)
        return torch.tensor(factors).to(features), torch.tensor(labels)

    def _likeliest(self, inputs: Tensor, slope: Tensor) -> int:
        """The label whose slopes for these inputs (D,) point most along a slope (U,)."""
        outputs = (inputs @ self.state[self.weight].T + self.state.get(bias_of(self.weight), 0.0))[None]
        labels = range(max(2, self.task.num_classes))
        along = [slopes_above(self.task, self.state, self.weight, outputs, label)[0] @ slope for label in labels]
        return int(torch.stack(along).argmax())

    def several_inputs(self, count: int, agreement: float) -> tuple[Tensor, int]:
        """The inputs (B, D) of several images, and how many were found; for the others stands the mean of the rows.

        Args:
            count: B, at least 2.
            agreement: See `pure_units.pure_rows`.

        Raises:
            BadSetting: the layer has no bias that trains.
        """
        weight, bias = self.gradient[self.weight], self.bias_gradient
        if bias is None:
            msg = (
                f"attack 'analytic' reads {count} images only from a dense layer whose bias trains; '{self.weight}' of "
                f"task '{self.task.name}' has none. Set victims.size = 1, or choose another attack, such as "
                "'mask_differencing' or 'rog'."
            )
            raise BadSetting(msg)
        rows, scale = torch.cat([weight, bias[:, None]], dim=1), self.two_class_scale()
        if scale is None:
            found = pure_rows(rows, count, agreement)
        else:
            summands, explained = find_summands(rows, scale, count)
            found = summands[:explained]
        found = found[found[:, -1] != 0]
        mean = bias.sign() @ weight / bias.abs().sum().clamp_min(torch.finfo(bias.dtype).tiny)
        return torch.cat([found[:, :-1] / found[:, -1:], mean.expand(count - len(found), -1)]), len(found)

    def two_class_scale(self) -> Tensor | None:
        """The difference (U,) of the head's two weights, where a ReLU and a head with two outputs follow the layer."""
        heads = [name for name, layer in self.task.model.named_modules() if isinstance(layer, nn.Linear)]
        head = self.state[f"{heads[-1]}.weight"]
        units = len(self.gradient[self.weight])
        if head.shape != (2, units):
            return None
        values = torch.linspace(-1, 1, 3 * units).to(head).reshape(units, 3).T
        above = partial(outputs_above, self.task, self.state, self.weight)
        follows = torch.allclose(above(values) - above(0 * values), values.relu() @ head.T, rtol=1e-4, atol=1e-5)
        return (head[0] - head[1]).to(self.gradient[self.weight]) if follows else None


def bias_of(weight: str) -> str:
    """The name of the bias of the layer with this weight."""
    return f"{weight.removesuffix('weight')}bias"


def _leading_row(rows: Tensor) -> Tensor:
    """The leading right singular vector (D,) of a matrix (U, D)."""
    _, left = torch.linalg.eigh((rows @ rows.T).double())
    direction = left[:, -1].to(rows) @ rows
    return F.normalize(direction, dim=0)
