"""Another attack's output, put through a network that knows films."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gradiograph.attacks.film_network import load_film_prior
from gradiograph.core import registry
from gradiograph.core.attack import Attack

if TYPE_CHECKING:
    import torch

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Reconstruction, Tensors


@registry.register("attack", "restored", paper="Yue et al. 2023, arXiv 2206.04055")
@dataclass(frozen=True, kw_only=True)
class Restored(Attack):
    """The images that another attack finds, restored to films: the second half of ROG, for radiographs.

    After Yue et al. 2023, section 4.2, who refine the upsampled image by a network trained on public images. The
    network is trained on degraded films and, if it was asked to rehearse, on the attack's own outputs on public films.
    What it adds is what it knows of films, not of this one: the mismatched control beside it is restored too.

    Args:
        of: The other attack, as in an audit: { use = "rog", labels = "joint" }.
        restorer: A file written by `gradiograph prior train FILE --kind restorer`.
    """

    of: dict[str, Any] = field(hash=False)
    restorer: Path

    @cached_property
    def inner(self) -> Attack:
        """The other attack."""
        attack: Attack = registry.build("attack", self.of)
        return attack

    @property
    def requires(self) -> tuple[str, ...]:
        """What the other attack requires, and public data."""
        return tuple(dict.fromkeys([*self.inner.requires, "public_data"]))

    def check(self, task: Task) -> None:
        """The other attack fits the model, and the restorer the images; raises `BadInput` where they do not."""
        self.inner.check(task)
        load_film_prior(self.restorer, task.image_shape)

    def plant(self, task: Task, state: Tensors) -> tuple[Task, Tensors]:
        """What the other attack plants."""
        return self.inner.plant(task, state)

    def __call__(
        self, observation: Observation, generator: torch.Generator, progress: Callable[[float], None]
    ) -> Reconstruction:
        """Attack, then restore; see `Attack.__call__`."""
        observation.threat.require("restored", *self.requires)
        started = perf_counter()
        prior = load_film_prior(self.restorer, observation.task.image_shape)
        found = self.inner(observation, generator, progress)
        return replace(found, images=prior.restore(found.images), seconds=perf_counter() - started)
