"""Solving for a batch: a dense layer's gradient has the rank of the batch, and ReLU makes its factor sparse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log10
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch.nn import functional as F

from gradiograph.attacks.disaggregation import Disaggregation, Factors, disaggregate
from gradiograph.attacks.feature_inversion import FeatureInversion, layer_inputs
from gradiograph.attacks.input_scale import slopes_above
from gradiograph.attacks.likelihoods import seen_update
from gradiograph.attacks.relu_layer import ReluLayer, first_relu_layer
from gradiograph.attacks.sparse_columns import independent, row_space, sparse_directions
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadSetting
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

GAP = 10.0
"""A singular value belongs to the films if it is this many times the first one beyond the batch."""
SURE = 0.975
"""A film is found if its input switches this share of the layer's units as its column of the gradient says."""
FLOAT = 1e-8
"""The smallest singular value that is resolved, as a share of the largest."""
DECADES = 1.0
"""How far from a grey image's an input's length is looked for where no bias fixes it."""
SCALES, ROUNDS = 64, 5
"""Lengths that are tried at once, and how often, each time closer."""


@register("attack", "spear", paper="Dimitrov et al. 2024, arXiv 2403.03945")
@dataclass(frozen=True, kw_only=True)
class Spear(Attack):
    """Exact inputs of a whole batch from the gradient of the first dense layer that is followed by ReLU.

    The layer's gradient is dL/dZ X^T = L R, of rank B: there is a matrix Q with dL/dZ = L Q and X^T = Q^-1 R. ReLU
    makes each column of dL/dZ zero where its film does not fire, so each column of Q is orthogonal to many rows of L;
    these columns are searched by samples of rows (`sparse_columns`). The bias's gradient, dL/dZ 1, gives their lengths.
    Of the candidates those are taken whose inputs switch ReLU as the zeros of dL/dZ say. No labels are used.

    A layer on the pixels gives the films themselves; below another layer each film is searched that has these inputs.

    Differs from the paper: half of the samples start from directions found before (`sparse_columns`); single columns
    are exchanged in place of the paper's greedy choice; without a bias the sign of an input is the one that switches
    ReLU better, and its length the one at which the network's own slope at the layer has the length seen.

    Where the layer lies right below a head and the batch has as many films as the head has classes, or more, the slopes
    of units that fire for all films are of the rank of the head: mixtures of films then have as many zeros as a film
    and crowd out the films, the more the larger the batch. `mask_differencing` is made for a head of two classes.

    Flags: "partial": fewer films were found than are behind the update (samples spent, or noise or equal films leave
    no gap in the spectrum at rank B); a film not found is given as what the batch has in common.
    "approximate": several local steps, between which the layer's inputs change, or the slope that fixes their length.

    Args:
        samples: Submatrices that are tried at most.
        steps: Of the feature inversion, where the layer does not see the image.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
    """

    samples: Annotated[int, Field(ge=1)] = 300_000
    steps: Annotated[int, Field(ge=1)] = 400
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    tv: Annotated[float, Field(ge=0)] = 1e-6

    @property
    def requires(self) -> tuple[str, ...]:
        """The number of films, and the protocol for the size of a step."""
        return ("knows_num_examples", "knows_protocol")

    def check(self, task: Task) -> None:
        """The model has a dense layer, followed by ReLU, that trains.

        Raises:
            BadSetting: it has none.
        """
        first_relu_layer(task)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Solve for the inputs, then invert them where they are features; see `Attack.__call__`.

        Raises:
            BadSetting: the batch is larger than a side of the layer.
        """
        observation.threat.require("spear", *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        layer, update = first_relu_layer(task), observation.rounds[0][1]
        gradient, state = _gradient(observation), _middle(observation)
        _check_size(task, layer, gradient[layer.weight], count)
        solving = 1.0 if layer.sees_image else 0.5
        factors = _factors(layer, state, gradient, count)
        several = update.kind == "delta" and (observation.local_steps or 1) > 1
        found = self._solve(factors, generator, lambda share: progress(solving * share))
        inputs, targets = _lengths(task, layer, state, found, count)
        missing = count - len(inputs)
        if missing:
            inputs = torch.cat([inputs, _common_input(task, layer, state, factors).expand(missing, -1)])
        values: list[float] = []
        if layer.sees_image:
            images = inputs.reshape(-1, *task.image_shape).clamp(0, 1)
        else:
            images, values = self._invert(task, layer, state, inputs, generator, progress)
        progress(1.0)
        return Reconstruction(
            images=images,
            targets=None if missing else targets,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=("partial",) * bool(missing) + ("approximate",) * (several and not (layer.sees_image and layer.bias)),
        )

    def _solve(self, factors: Factors, generator: torch.Generator, progress: Callable[[float], None]) -> Disaggregation:
        """Sample until every film is found or the samples are spent; those found."""
        width = factors.left.shape[1]
        best = disaggregate(factors, factors.left.new_zeros(0, width), exchange=False)
        last, basis = factors.left.new_zeros(0, width), factors.left.new_zeros(0, width)
        for share, candidates in sparse_directions(factors.left, factors.noise, generator, self.samples):
            progress(share)
            before, basis = basis, candidates[independent(candidates)]
            # Exchanges are slow; they wait until sampling alone finds nothing sparser.
            stalled = share == 1 or torch.equal(basis, before)
            if stalled and torch.equal(candidates, last):
                continue
            last = candidates if stalled else last
            found = disaggregate(factors, candidates, exchange=stalled)
            if float(found.match.sum()) > float(best.match.sum()):
                best = found
            if bool((best.match >= SURE).all()):
                break
        kept = best.match >= SURE
        return Disaggregation(inputs=best.inputs[kept], slopes=best.slopes[kept], match=best.match[kept])

    def _invert(
        self,
        task: Task,
        layer: ReluLayer,
        state: Tensors,
        inputs: Tensor,
        generator: torch.Generator,
        progress: Callable[[float], None],
    ) -> tuple[Tensor, list[float]]:
        """The images (B, C, H, W) that have these inputs to the layer, and the objective after each step."""
        start = 0.5 + 0.01 * torch.randn(len(inputs), 1, *task.image_shape[1:], generator=generator)
        inversion = FeatureInversion(steps=self.steps, learning_rate=self.learning_rate, tv=self.tv)
        features = layer_inputs(task, state, layer.weight)
        return inversion(
            features, lambda _: inputs, task.image_shape, start.to(inputs), lambda share: progress(0.5 + 0.5 * share)
        )


def _gradient(observation: Observation) -> dict[str, Tensor]:
    """The seen update as a gradient of the batch's mean loss; the mean over the local steps for a delta."""
    step = (observation.local_learning_rate or 1.0) * (observation.local_steps or 1)
    scale = -step if observation.rounds[0][1].kind == "delta" else 1.0
    return {name: tensor / scale for name, tensor in seen_update(observation).items()}


def _middle(observation: Observation) -> dict[str, Tensor]:
    """The state at which the gradient was taken; for a delta the middle of the round."""
    (state, update), seen = observation.rounds[0], seen_update(observation)
    share = 0.5 if update.kind == "delta" else 0.0
    return {name: state[name].detach() + share * seen[name] if name in seen else state[name] for name in state}


def _check_size(task: Task, layer: ReluLayer, gradient: Tensor, count: int) -> None:
    if count > min(gradient.shape):
        msg = (
            f"spear solves for at most as many films as the smaller side of '{layer.weight}' {tuple(gradient.shape)}; "
            f"this update of task '{task.name}' is of {count}. Attack smaller batches, or choose 'rog'."
        )
        raise BadSetting(msg)


def _factors(layer: ReluLayer, state: Tensors, gradient: Tensors, count: int) -> Factors:
    """The factors of the layer's gradient, of the rank that stands out of the spectrum, at most B."""
    weight = gradient[layer.weight]
    left, right, spectrum = row_space(weight, count)
    beyond = torch.cat([spectrum[count:], FLOAT * spectrum[:1]])
    rank = int((spectrum[:count] > GAP * beyond.max()).sum())
    left, right = left[:, :rank], right[:rank]
    bias = None if layer.bias is None else gradient[layer.bias].double()
    return Factors(
        left=left,
        right=right,
        noise=float(beyond.norm()) / weight.numel() ** 0.5,
        lifted=right @ state[layer.weight].double().T,
        weights=None if bias is None else torch.linalg.lstsq(left, bias[:, None]).solution[:, 0],
        offset=left.new_zeros(len(left)) if layer.bias is None else state[layer.bias].double(),
    )


def _lengths(task: Task, layer: ReluLayer, state: Tensors, found: Disaggregation, count: int) -> tuple[Tensor, Tensor]:
    """The inputs (k, n) at their length, and the classes (k,): those at which the network has the slopes seen."""
    typical = float(_grey_inputs(task, layer, state).norm())
    inputs, targets = found.inputs.float(), torch.zeros(len(found.inputs), dtype=torch.int64)
    for film, slope in enumerate(count * found.slopes.float()):
        size = 1.0 if layer.bias else typical / float(inputs[film].norm())
        scale, label = _fit(task, layer, state, size * inputs[film], slope / size)
        inputs[film] *= scale * size
        targets[film] = label
    return inputs, targets


def _fit(task: Task, layer: ReluLayer, state: Tensors, unit: Tensor, wanted: Tensor) -> tuple[float, int]:
    """The length t (1 where a bias fixes it) and the class at which t * slope(t * unit) is nearest to the wanted."""
    centre, half, scale, label = 0.0, DECADES, 1.0, 0
    for _ in range(1 if layer.bias else ROUNDS):
        scales = torch.ones(1) if layer.bias else 10 ** torch.linspace(centre - half, centre + half, SCALES)
        values = F.linear(scales[:, None] * unit, state[layer.weight], state[layer.bias] if layer.bias else None)
        found = [slopes_above(task, state, layer.weight, values, label) for label in range(task.num_classes)]
        errors = torch.stack([(scales[:, None] * slope - wanted).norm(dim=1) for slope in found])
        label, place = divmod(int(errors.argmin()), len(scales))
        scale = float(scales[place])
        centre, half = log10(scale), 4 * half / SCALES
    return scale, label


def _grey_inputs(task: Task, layer: ReluLayer, state: Tensors) -> Tensor:
    """What the layer sees of a grey image: (1, n)."""
    with torch.no_grad():
        return layer_inputs(task, state, layer.weight)(torch.full((1, *task.image_shape), 0.5))[0]


def _common_input(task: Task, layer: ReluLayer, state: Tensors, factors: Factors) -> Tensor:
    """The direction that the batch's inputs have in common, at the length and sign of a grey image's: (1, n)."""
    grey = _grey_inputs(task, layer, state)
    if not len(factors.right):
        return grey
    common = factors.right[:1].float()
    length: Tensor = grey.norm() * (common * grey).sum().sign()
    return common * length
