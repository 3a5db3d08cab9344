"""A planted layer that sorts films into bins: Robbing the Fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from gradiograph.attacks.change_points import segments
from gradiograph.attacks.eigen import EigenPrior, load_prior, mean_image
from gradiograph.attacks.likelihoods import seen_update
from gradiograph.core.attack import Attack
from gradiograph.core.random import stream
from gradiograph.core.registry import register
from gradiograph.core.tensors import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

LOUDNESS = 0.05
"""Standard deviation that the planted layer adds to the pixels of a usual film, before they reach the real model."""
ROWS = "imprint.weight"
"""The name of the planted layer's weight."""


class Imprinted(nn.Module):
    """A model behind a planted layer: each unit fires for films that are brighter than its threshold."""

    def __init__(self, model: nn.Module, image_shape: tuple[int, ...], thresholds: Tensor, gain: float) -> None:
        super().__init__()
        pixels, bins = torch.Size(image_shape).numel(), len(thresholds)
        self.imprint = nn.Linear(pixels, bins)
        self.bridge = nn.Linear(bins, image_shape[0], bias=False)
        self.model = model
        with torch.no_grad():
            self.imprint.weight.fill_(gain / pixels)
            self.imprint.bias.copy_(-gain * thresholds)
            signs = alternating(bins).to(thresholds)
            usual = gain * (signs * (thresholds[bins // 2] - thresholds).relu()).sum()
            colours = torch.randn(image_shape[0], generator=stream(0, "imprint", "bridge")).to(thresholds)
            self.bridge.weight.copy_(LOUDNESS / usual * colours[:, None] * signs)

    def forward(self, images: Tensor) -> Tensor:
        """The model's outputs for images that are all a little brighter or darker; see `imprint`."""
        risen = self.bridge(self.imprint(images.flatten(1)).relu())
        outputs: Tensor = self.model(images + risen.reshape(*risen.shape, *[1] * (images.ndim - 2)))
        return outputs


def alternating(count: int) -> Tensor:
    """(count,), 1 and -1 in turn: what neighbouring units add to the model's input nearly cancels."""
    return 1.0 - 2.0 * (torch.arange(count) % 2)


@register("attack", "imprint", paper="Fowl et al. 2022, arXiv 2110.13057")
@dataclass(frozen=True, kw_only=True)
class Imprint(Attack):
    """A layer planted in front of the model, whose gradient holds each film in a row of its own (Robbing the Fed).

    Each unit measures the film's mean brightness and fires above a threshold of its own; all rows are equal, and all
    outgoing weights but for their sign. So the gradient of a unit's row is, up to that sign, the sum, each times its
    slope, of the films that are brighter than the threshold, and neighbouring rows differ by the films between the two
    thresholds (Fowl et al. 2022, section 4). A malicious server only, and a client that looks at the model finds it:
    see `inspection`.

    Differs from the paper: outgoing weights alternate in sign, so that they can be large without drowning the film;
    rows between two films are equal, so they are first averaged (`change_points.segments`), which takes noise off; and
    a film's size is that of its threshold, not of the bias's gradient, so that channels which scale or forget sizes do
    not matter.

    Flags: "approximate": the update sums several local steps. "partial": fewer steps between rows were found than
    films; two lie between the same thresholds, or noise hides them. In their place stands the mean film.

    Args:
        bins: Units, one more than bins between them.
        gain: Of the measurement. The higher, the less local steps move a film to another bin.
        prior: A file written by `gradiograph prior train`: films' brightness, for the thresholds, and their density,
            for the films found under noise. None spreads the thresholds evenly over [0, 1].
    """

    bins: Annotated[int, Field(ge=2, le=4096)] = 256
    gain: Annotated[float, Field(gt=0)] = 10.0
    prior: Path | None = None

    @property
    def requires(self) -> tuple[str, ...]:
        """A malicious server; the number of images; public data for the prior."""
        return ("malicious_server", "knows_num_examples", *(["public_data"] if self.prior else []))

    def check(self, task: Task) -> None:
        """The prior fits the images; raises `BadInput` where it does not."""
        self._load(task)

    def plant(self, task: Task, state: Tensors) -> tuple[Task, Tensors]:
        """The model behind the planted layer, which trains."""
        model = Imprinted(task.model, task.image_shape, self._thresholds(self._load(task)), self.gain)
        names = tuple(name for name, _ in model.named_parameters() if not name.startswith("model."))
        trainable = (*names, *(f"model.{name}" for name in task.trainable))
        planted = replace(task, name=f"{task.name}+imprint", model=model, trainable=trainable)
        return planted, {**planted.state(), **{f"model.{name}": tensor for name, tensor in state.items()}}

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Take the rows apart; see `Attack.__call__`."""
        observation.threat.require("imprint", *self.requires)
        started = perf_counter()
        task, count = observation.task, observation.num_examples
        prior = self._load(task)
        thresholds = self._thresholds(prior)
        rows = seen_update(observation)[ROWS].double() * alternating(self.bins)[:, None]
        progress(0.5)
        parts = segments(rows, count + 1)
        means = torch.stack([rows[part].mean(dim=0) for part in parts])
        films = []
        for place in range(len(parts) - 1):
            step, first = means[place] - means[place + 1], parts[place + 1].start
            if not float(step.mean()):
                continue
            scale = (thresholds[first - 1] + thresholds[first]) / 2 / step.mean()
            lengths = torch.tensor([part.stop - part.start for part in (parts[place], parts[place + 1])])
            noise = _spread(rows, parts) * float((1 / lengths).sum().sqrt() * scale.abs())
            films.append(_likeliest((step * scale).float().reshape(task.image_shape), noise, prior))
        mean = mean_image(prior, task.image_shape)
        missing = count - len(films)
        flags = [*(["approximate"] if (observation.local_steps or 1) > 1 else []), *(["partial"] if missing else [])]
        progress(1.0)
        return Reconstruction(
            images=torch.stack([*films, *[mean] * missing]).clamp(0, 1).contiguous(),
            targets=None,
            objective=(),
            seconds=perf_counter() - started,
            flags=tuple(flags),
        )

    def _load(self, task: Task) -> EigenPrior | None:
        return None if self.prior is None else load_prior(self.prior, task.image_shape)

    def _thresholds(self, prior: EigenPrior | None) -> Tensor:
        """(bins,), ascending; with a prior, as many films are expected between any two neighbours."""
        shares = (torch.arange(self.bins) + 0.5) / self.bins
        if prior is None:
            return shares
        weights = prior.components.mean(dim=1) * prior.std
        usual = NormalDist(float(prior.mean.mean()), float(weights.norm()))
        return torch.tensor([usual.inv_cdf(float(share)) for share in shares])


def _spread(rows: Tensor, parts: list[slice]) -> float:
    """The standard deviation of a value of a row around the mean of its segment; 0 where each row is its own."""
    squares = torch.stack([(rows[part] - rows[part].mean(dim=0)).square().mean(dim=1).sum() for part in parts]).sum()
    return float((squares / max(1, len(rows) - len(parts))).sqrt())


def _likeliest(film: Tensor, noise: float, prior: EigenPrior | None) -> Tensor:
    """The posterior mean of a film (C, H, W) seen with noise of this standard deviation, by the prior's density."""
    if prior is None:
        return film
    noise /= film.shape[0] ** 0.5 if prior.is_grey else 1.0
    grey = film.mean(dim=0, keepdim=True).expand_as(film) if prior.is_grey else film
    latent = prior.encode(grey[None])
    held = prior.images(latent)[0]
    kept = prior.images(latent * prior.std.square() / (prior.std.square() + noise**2))[0]
    rest: Tensor = kept + (grey - held) * (prior.residual**2 / max(prior.residual**2 + noise**2, 1e-12))
    return rest
