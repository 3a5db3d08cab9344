"""What is timed: two networks, a client's update on phantom films, and the plain search on it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

import gradiograph.data
import gradiograph.protocols
import gradiograph.tasks  # noqa: F401 - importing a room registers its components
from gradiograph.audit.client import client_update, observe
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from plain_rog import PlainResult, plain_rog

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.records import Dataset

SEED = 7
BATCH = 4
LOCAL_LEARNING_RATE = 1e-4
"""As in the audits of this project."""
PLAIN = "plain ROG"


@dataclass(frozen=True)
class Case:
    """A network, the local steps behind the update, and who is timed on it.

    `released` are the seconds a step that ROG's released code was seen to take, on another day. `warm_up` steps
    are run before those that count: the first of a search also sets up.
    """

    task: str
    local_steps: int
    attacks: tuple[str, ...] | None
    released: tuple[float, float]
    warm_up: int
    repeats: int


CASES = (
    Case("lenet", local_steps=5, attacks=None, released=(3.0, 5.1), warm_up=1, repeats=3),
    Case("resnet_wide_head", local_steps=10, attacks=("rog", "map"), released=(5.6, 5.6), warm_up=1, repeats=2),
)


@dataclass(frozen=True)
class Round:
    """One undefended FedAvg round: what the server observes, and the films (B, 3, H, W) behind it."""

    case: Case
    observation: Observation
    films: Tensor

    def plain(
        self,
        *,
        steps: int = 100,
        timed_steps: int | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> PlainResult:
        """ROG's search on this update, written out plainly; see `plain_rog`."""
        task, labels = self.observation.task, self.observation.labels
        assert labels is not None
        return plain_rog(
            task.model,
            self.observation.rounds[0][1].tensors,
            labels,
            (3, *self.films.shape[2:]),
            stream(SEED, "attack"),
            local_steps=self.case.local_steps,
            local_learning_rate=LOCAL_LEARNING_RATE,
            steps=steps,
            timed_steps=timed_steps,
            watch=watch,
        )


def phantom(size: int, patients: int = 700) -> Dataset:
    """Phantom films; the patients of its test split are attacked, those of its train split are public."""
    data: Dataset = registry.build("data", {"use": "phantom", "image_size": size, "channels": 3, "patients": patients})
    return data


def clock() -> float:
    """Seconds, read when all that was given to a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def observed(case: Case, size: int, device: str = "cpu", batch: int = BATCH) -> Round:
    """A round on the first films of the phantom's test split, both classes in turn; the server knows the labels."""
    task = registry.build("task", {"use": case.task}, (3, size, size), SEED)
    task.model.to(device)
    settings = {"use": "fedavg", "local_steps": case.local_steps, "learning_rate": LOCAL_LEARNING_RATE}
    protocol = registry.build("protocol", settings)
    data = phantom(size)
    victims = data.select(split="test")[:batch]
    films = torch.from_numpy(data.read([record.index for record in victims])).to(device)
    labels = torch.tensor([record.label for record in victims], device=device)
    state = task.state()
    update = client_update(task, state, Batch(films, labels), protocol, Chain(), SEED)
    threat = ThreatModel(knows_labels=True, public_data=True)
    return Round(case, observe(task, state, update, protocol, Chain(), threat, labels), films)
