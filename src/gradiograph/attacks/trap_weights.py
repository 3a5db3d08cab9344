"""Weights planted in the first dense layer, so that its units fire for few films: trap weights, and fishing for one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch.nn.functional import normalize

from gradiograph.attacks.dense_layer import SeenLayer, bias_of, first_dense_layer
from gradiograph.attacks.eigen import EigenPrior, load_prior, mean_image
from gradiograph.attacks.feature_inversion import FeatureInversion, inputs_of, layer_inputs
from gradiograph.attacks.mixture import Mixture
from gradiograph.attacks.pure_units import pure_rows
from gradiograph.attacks.unmixing import search_images
from gradiograph.core.attack import Attack
from gradiograph.core.random import stream
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

FILMS = 384
BLOCK = 16
SILENT = 0.01
"""Rows shorter than this share of the longest belong to units that fired for no film."""
STEADY = 0.05
"""Units whose scale is below this share of the usual one are left out: what is divided by it is noise."""
TWO_SIGNS = 1e-4
"""Share of a row's energy with the minority sign from which on it is a difference of films."""
FLAT = 0.1
"""Sine of the angle to the span of others below which a row is one of their sums; two films are at about 0.2."""
LONGER = 1.3
"""How much longer another row of the same film may be: its unit may have fired in more of the local steps."""
AGREEMENT = 1e-3
"""The largest distance of two rows of one film, as unit vectors: in several local steps its slope moves a little."""


def trapped(weight: Tensor, features: Tensor, shares: Tensor) -> Tensor:
    """Rows (U, D) whose units fire for a share of films each, as long as the row that they replace.

    Args:
        weight: (U, D), any directions.
        features: (N, D), of films, not negative.
        shares: (U,) in (0, 1), of the films for which the unit is to fire: the part of a row that is negative is made
            as much stronger as that takes.
    """
    up, down = weight.clamp_min(0), (-weight).clamp_min(0)
    ratios = (features @ up.T / (features @ down.T).clamp_min(torch.finfo(features.dtype).tiny)).T
    stronger = torch.stack([row.quantile(1 - share) for row, share in zip(ratios, shares, strict=True)])
    rows = up - stronger[:, None] * down
    planted: Tensor = normalize(rows, dim=1) * weight.norm(dim=1, keepdim=True)
    return planted


def shortest_rows(rows: Tensor, scale: Tensor, most: int) -> Tensor:
    """The rows (n, D) of single films, n at most `most`: of one sign, and not in the span of shorter ones.

    Below a head with two outputs each row, over its scale, is a sum of some films' inputs, each as long in every sum:
    single films are shorter than the sums in which they are, and differences, of films of both classes, have two signs.
    Of rows of one film the loudest is taken, which several local steps have changed the least.

    Args:
        rows: (U, D).
        scale: (U,), of each unit, none 0.
        most: At least 1.
    """
    squares = rows.square().sum(dim=1)
    minority = rows.clamp_max(0).square().sum(dim=1) / squares
    pure = torch.minimum(minority, 1 - minority) < TWO_SIGNS
    rows, lengths = rows[pure], squares[pure].sqrt() / scale[pure].abs()
    units = normalize(rows, dim=1)
    found, basis = [], units[:0]
    for place in lengths.argsort().tolist():
        beside = units[place] - (units[place] @ basis.T) @ basis
        if float(beside.norm()) > FLAT:
            same = ((units @ units[place]).abs() > (1 - FLAT**2) ** 0.5) & (lengths < LONGER * lengths[place])
            loudest = torch.where(same, rows.norm(dim=1), 0.0).argmax()
            found.append(rows[loudest])
            beside = units[loudest] - (units[loudest] @ basis.T) @ basis
            basis = torch.cat([basis, normalize(beside - (beside @ basis.T) @ basis, dim=0)[None]])
        if len(found) == most:
            break
    return torch.stack(found) if found else rows


@dataclass(frozen=True, kw_only=True)
class _Planted(Attack):
    """An attack that plants the rows of the first dense layer, and inverts the inputs that their gradient shows.

    Args:
        films: Films that are expected behind an update.
        prior: A file written by `gradiograph prior train`; None takes films for uniform noise and searches the pixels.
        steps: Of the search for the images.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
    """

    films: Annotated[int, Field(ge=2)] = 16
    prior: Path | None = None
    steps: Annotated[int, Field(ge=1)] = 200
    learning_rate: Annotated[float, Field(gt=0)] = 0.06
    tv: Annotated[float, Field(ge=0)] = 1e-7

    @property
    def requires(self) -> tuple[str, ...]:
        """A malicious server, the number of images, the protocol; public data for the prior."""
        return ("malicious_server", "knows_num_examples", "knows_protocol", *(["public_data"] if self.prior else []))

    def check(self, task: Task) -> None:
        """A dense layer is trained and is called once on one vector for each image; the prior fits the images.

        Raises:
            BadInput: it does not.
        """
        first_dense_layer(task)
        self._load(task)

    def plant(self, task: Task, state: Tensors) -> tuple[Task, Tensors]:
        """The same model with other rows in its first dense layer, and no bias there."""
        weight, prior, draws = first_dense_layer(task), self._load(task), stream(0, "trap weights")
        films = torch.rand(FILMS, *task.image_shape, generator=draws)
        if prior is not None:
            films = prior.images(torch.randn(FILMS, len(prior.std), generator=draws)).clamp(0, 1)
        features = inputs_of(layer_inputs(task, state, weight), torch.split(films.to(state[weight]), BLOCK))
        rows = self._rows(state[weight], features, draws)
        bias = bias_of(weight)
        return task, {**state, weight: rows} | ({bias: torch.zeros_like(state[bias])} if bias in state else {})

    @abstractmethod
    def _rows(self, weight: Tensor, features: Tensor, draws: torch.Generator) -> Tensor:
        """The rows (U, D) to plant in place of these, for films with these features (N, D)."""

    @abstractmethod
    def _inputs(self, rows: Tensor, scale: Tensor | None, count: int) -> Tensor:
        """The directions (n, D), n at most the number of films, of single films' inputs in a gradient (U, D).

        The scale (U,) is that of `SeenLayer.two_class_scale`.
        """

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Read the rows of single films, and search the images; see `Attack.__call__`."""
        observation.threat.require(type(self).__name__, *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        prior = self._load(task)
        layer = SeenLayer.of(observation, first_dense_layer(task), generator)
        gradient = layer.gradient[layer.weight]
        inputs = self._inputs(gradient, layer.two_class_scale(), count)
        mean = mean_image(prior, task.image_shape)
        images, labels = mean[None][:0], None
        values: list[float] = []
        if len(inputs):
            inputs = inputs * inputs.sum(dim=1, keepdim=True).sign() / inputs.mean(dim=1, keepdim=True).abs()
            mixing = torch.linalg.lstsq(inputs.T.double(), gradient.T.double()).solution.T.to(gradient)
            search = FeatureInversion(steps=self.steps, learning_rate=self.learning_rate, tv=self.tv, prior=prior)
            start = 0.5 + 0.01 * torch.randn(len(inputs), 1, *task.image_shape[1:], generator=generator)
            # The mean over `count` films, of which these are some.
            mixture = Mixture(mixing * (count / len(inputs)), inputs)
            images, labels, values = search_images(layer, mixture, search, start, progress, None)
        missing = count - len(images)
        flags = [*(["approximate"] if (observation.local_steps or 1) > 1 else []), *(["partial"] if missing else [])]
        progress(1.0)
        return Reconstruction(
            images=torch.cat([images.float().cpu(), mean.expand(missing, *mean.shape)]).clamp(0, 1).contiguous(),
            targets=None if missing else labels,
            objective=tuple(values),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _load(self, task: Task) -> EigenPrior | None:
        return None if self.prior is None else load_prior(self.prior, task.image_shape)


@register("attack", "trap_weights", paper="Boenisch et al. 2021, arXiv 2112.02918")
@dataclass(frozen=True, kw_only=True)
class TrapWeights(_Planted):
    """Rows whose negative part is so strong that each unit fires for about one film of a batch.

    Boenisch et al. 2021, section 5: the gradient of such a unit's row is that film's input to the layer. A malicious
    server only; the architecture stays as it is.

    Differs from the paper: how strong is set by the features of public films, unit by unit, in place of one factor; the
    layer need not see the pixels, its inputs are inverted (`feature_inversion`); rows of single films are told from
    sums by their length below a head with two outputs (`shortest_rows`), else by their agreement
    (`pure_units.pure_rows`), without a bias.

    Flags: "approximate": the update sums several local steps. "partial": no unit fired for some film alone; in its
    place stands the mean film.

    Args:
        films: Films that are expected behind an update.
        prior: A file written by `gradiograph prior train`; None takes films for uniform noise and searches the pixels.
        steps: Of the search for the images.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
    """

    def _rows(self, weight: Tensor, features: Tensor, draws: torch.Generator) -> Tensor:
        directions = normalize(torch.randn(weight.shape, generator=draws).to(weight), dim=1)
        scaled = directions * weight.norm(dim=1, keepdim=True)
        return trapped(scaled, features, torch.full((len(weight),), 1 / self.films).to(weight))

    def _inputs(self, rows: Tensor, scale: Tensor | None, count: int) -> Tensor:
        loud = rows.norm(dim=1) > SILENT * rows.norm(dim=1).max()
        if scale is not None:
            steady = loud & (scale.abs() > STEADY * scale.abs().median())
            return shortest_rows(rows[steady], scale[steady], count)
        values = torch.linalg.svdvals(normalize(rows[loud], dim=1))
        return pure_rows(rows[loud], min(count, int((values > AGREEMENT * values[0]).sum())), AGREEMENT)


@register("attack", "fishing", paper="Wen et al. 2022, arXiv 2202.00580")
@dataclass(frozen=True, kw_only=True)
class Fishing(_Planted):
    """One film out of a large batch: units of one direction, whose thresholds rise until they fire for one film only.

    After Wen et al. 2022, who change the last layer so that one film's gradient drowns the others'. A malicious server
    only; the architecture stays as it is.

    Differs from the paper: with two classes the last layer cannot silence the films of both, so the first dense layer's
    rows are planted in its place. They differ in how strong the negative part is, so that the unit of the highest
    threshold that fired did so for one film.

    Flags: "approximate": the update sums several local steps. "partial": always, for a batch of more than one film;
    in the others' place stands the mean film.

    Args:
        films: Films that are expected behind an update.
        prior: A file written by `gradiograph prior train`; None takes films for uniform noise and searches the pixels.
        steps: Of the search for the images.
        learning_rate: Of its Adam, in units of the pixels.
        tv: Weight of its total variation.
    """

    def _rows(self, weight: Tensor, features: Tensor, draws: torch.Generator) -> Tensor:
        direction = normalize(torch.randn(weight.shape[1], generator=draws).to(weight), dim=0)
        # From four films in a batch to a tenth of one, the rarest last.
        shares = torch.logspace(0.6, -1, len(weight)).to(weight) / self.films
        return trapped(weight.norm(dim=1, keepdim=True) * direction, features, shares.clamp(max=0.5))

    def _inputs(self, rows: Tensor, scale: Tensor | None, count: int) -> Tensor:
        lengths = rows.norm(dim=1)
        fired = (lengths > SILENT * lengths.max()).nonzero().flatten()
        return rows[fired[-1:]]
