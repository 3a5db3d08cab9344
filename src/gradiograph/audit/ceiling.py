"""The ceiling: what a better search of the same objective could still find. An oracle that sees the truth.

It stands beside the results as a control and is never an attack: its cells have controls of their own, which begin with
`grid.ORACLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.optimisers import Adam
from gradiograph.audit.client import channel_of_a_sum, of_a_sum
from gradiograph.audit.films import planar_shape
from gradiograph.audit.grid import TRUTH, GridCell, ceiling_control
from gradiograph.audit.plan import Plan, build_attack
from gradiograph.audit.spectrum import Spectrum, low_frequencies, spectrum
from gradiograph.core.random import stream
from gradiograph.core.replay import replay
from gradiograph.core.scoring import Score
from gradiograph.core.tensors import Batch, Belief, Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Attack, Observation
    from gradiograph.core.defence import Chain, Defence
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

Share = Callable[[float], None]


def blended(truth: Tensor, other: Tensor, blend: float) -> Tensor:
    """(1 - blend) of the truth and `blend` of another film."""
    return (1 - blend) * truth + blend * other


def search_near_truth(made: Plan, cell: GridCell, observation: Observation, share: Share) -> Reconstruction:
    """The cell's own search, begun at the truth blended with the stock film; the truth itself for the control `TRUTH`.

    Returns:
        What the search returned; its objective begins with the value at the start. For `TRUTH` see `at_truth`. An
        attack that is not a `GradientMatching` has neither of these values.
    """
    victims = made.films.victims[cell.batch]
    targets, truth = victims.targets(observation.task), torch.from_numpy(victims.read())
    attack = build_attack(made.builder, cell.attack or {})
    if cell.control == TRUTH:
        return at_truth(attack, observation, Batch(truth, targets))
    (blend,) = [b for b in made.spec.ceiling.blends if ceiling_control(b) == cell.control] if made.spec.ceiling else []
    start = blended(truth, torch.from_numpy(made.films.stock_films(cell.batch, cell.seed).read()), blend)
    search = attack.started_at(start)
    if search is None:
        msg = f"The cell {cell.id} asks for the ceiling of an attack that does not search."
        raise ValueError(msg)
    found = search(observation, stream(cell.seed, "attack", cell.key["attack"]), share)
    before = at_rest(search, observation, stream(cell.seed, "attack", cell.key["attack"]))
    return replace(found, objective=(*before.objective, *found.objective)) if before else found


def at_truth(attack: Attack, observation: Observation, truth: Batch) -> Reconstruction:
    """The truth as the search can show it and, with the true labels, the objective there.

    Args:
        attack: A search.
        observation: What the server holds.
        truth: The films and their labels.
    """
    knows = observation.threat.model_copy(update={"knows_labels": True})
    knowing = replace(observation, labels=truth.targets, threat=knows)
    search = attack.started_at(truth.images)
    if isinstance(search, GradientMatching):
        search = replace(search, labels="known")
    nothing = Reconstruction(images=truth.images, targets=truth.targets, objective=(), seconds=0.0)
    return at_rest(search, knowing, stream(0, "ceiling")) or nothing


def at_rest(search: Attack | None, observation: Observation, generator: torch.Generator) -> Reconstruction | None:
    """The search standing still where it begins: the images there and the objective, one value.

    None for an attack that is not a `GradientMatching`: how to hold it still is not known.
    """
    if not isinstance(search, GradientMatching):
        return None
    still = replace(search, steps=1, optimiser=Adam(learning_rate=0.0), smoothing=0.0)
    found = still(observation, generator, lambda _: None)
    return replace(found, objective=found.objective[-1:], flags=())


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The spectra of a batch: a picture and two scores for each film, and how it went."""

    images: Tensor
    scores: tuple[Score, ...]
    flags: tuple[str, ...]
    seconds: float


def visible_films(made: Plan, cell: GridCell, mean_film: Tensor, share: Share) -> Shown:
    """What the update shows of each film of the cell's batch: see `spectrum`.

    The pictures are the mean film plus what the visible directions hold of each film's difference from it.
    """
    started = perf_counter()
    see, films = sight(made, cell), torch.from_numpy(made.films.victims[cell.batch].read())
    count = made.spec.ceiling.jacobian if made.spec.ceiling else 0
    basis = low_frequencies(count, planar_shape(made.films.dataset))
    found: list[Spectrum] = []
    for place in range(len(films)):
        found.append(spectrum(see, films, place, basis, stream(cell.seed, "spectrum", place)))
        share((place + 1) / len(films))
    return Shown(
        images=torch.stack([one.visible_part(film, mean_film) for one, film in zip(found, films, strict=True)]),
        scores=(
            Score("visible_directions", f"of {count}", True, torch.tensor([float(one.visible) for one in found])),
            Score("probed_directions", "", True, torch.full((len(found),), float(count))),
            Score("condition_log10", "", False, torch.tensor([one.log_condition for one in found])),
        ),
        flags=() if all(one.is_linear for one in found) else ("nonlinear",),
        seconds=perf_counter() - started,
    )


def sight(made: Plan, cell: GridCell) -> Callable[[Tensor], Belief]:
    """Films of the cell's batch -> what its server sees of their update in the first round, as a belief."""
    task = made.task(cell.task or {}, cell.seed)
    protocol: Protocol = made.builder.make("protocol", cell.protocol or {})
    state = made.captured.state if made.captured else task.state()
    targets = made.films.victims[cell.batch].targets(task)
    clients, chain = made.spec.threat.clients, made.chain(cell.protocol or {}, cell.defence)
    channel = channel_of_a_sum(chain, clients)
    return partial(_see, task, state, of_a_sum(protocol, clients), chain, channel, targets)


def _see(
    task: Task, state: Tensors, protocol: Protocol, chain: Chain, channel: Defence, targets: Tensor, films: Tensor
) -> Belief:
    with torch.no_grad():
        return channel.expect(replay(task, state, protocol, chain, Batch(films, targets)))
