"""From a candidate batch to the update that it would have made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.attacks.likelihoods import seen_update
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.factored import FactoredTensors, factors, inner, plus, scaled
from gradiograph.core.task import copy_buffers, factored_shifts, mean_gradient
from gradiograph.core.tensors import Batch, Belief

if TYPE_CHECKING:
    from gradiograph.core.attack import Observation
    from gradiograph.core.tensors import Tensors

ReplayName = Literal["exact", "midpoint", "corrected"]
Replay = Callable[[Batch], Belief]

MIDPOINT_TOLERANCE = 0.1
"""Largest disagreement at which the midpoint stands in for the local steps, whatever the misfit."""
MIDPOINT_SHARE = 0.5
"""Largest squared disagreement as a share of the misfit: far from the solution a coarse replay points the way."""


def exact(observation: Observation, round: int = 0) -> Replay:
    """The protocol itself, differentiably; it costs as many gradients as the client took steps.

    Args:
        observation: What the server holds.
        round: Place in `observation.rounds` of the round that is replayed.

    Raises:
        MissingKnowledge: the observation does not hold the protocol.
    """
    if observation.simulate is None:
        msg = "The replay needs the client's protocol, which this observation does not hold. Grant knows_protocol."
        raise MissingKnowledge(msg)
    return partial(observation.simulate, round=round) if round else observation.simulate


def midpoint(observation: Observation, round: int = 0) -> Replay:
    """One gradient in the middle of the client's path, for all local steps together.

    The server knows both ends of the path. Along a straight path the n steps of SGD take their gradients at 0, 1/n,
    ..., (n - 1)/n of the way, on average at (n - 1)/(2n): there the gradient is taken, times -learning_rate * n. Exact
    for one step; for more the error is of second order in learning_rate * n at the true images, at the price of one
    gradient. It fails where local training converges within the round, where the local optimiser is not plain SGD,
    and where a defence has left too little of the update to find the middle: compare `agrees`.

    Args:
        observation: What the server holds.
        round: Place in `observation.rounds` of the round that is replayed.

    Raises:
        MissingKnowledge: the observation does not hold the protocol.
    """
    if observation.local_steps is None or observation.local_learning_rate is None:
        msg = "The midpoint needs the local steps and learning rate, which this observation does not hold. "
        raise MissingKnowledge(msg + "Grant knows_protocol.")
    state, _ = observation.rounds[round]
    seen = seen_update(observation, round)
    task = replace(observation.task, trainable=tuple(seen))  # no gradient of what is not compared
    steps = observation.local_steps
    share = (steps - 1) / (2 * steps)
    middle = {name: state[name].detach() + share * delta for name, delta in seen.items()}
    scale = -observation.local_learning_rate * steps

    def replay(batch: Batch) -> Belief:
        weights = {**state, **copy_buffers(task, state), **middle}
        shifts = factored_shifts(task, weights, batch, 1)
        gradient = mean_gradient(task, weights, batch, create_graph=True, shifts=shifts)
        return Belief(scaled(gradient, scale))

    return replay


def corrected(approximate: Replay, exact: Replay, batch: Batch) -> Replay:
    """An approximate replay, plus what it lacks at this candidate: exact there, and nearly so close to it.

    The slopes stay those of the approximate replay, so that a search that corrects now and then (defect correction)
    pays for the exact replay a few times and without its graph, and ends where the exact replay would.

    Args:
        approximate: A replay.
        exact: The replay that it stands in for.
        batch: The candidate.
    """
    with torch.no_grad():
        near, true = approximate(batch).mean, exact(batch).mean
        lacks = {name: plus(factors(true, name), -1.0 * factors(near, name)) for name in near}

    def replay(batch: Batch) -> Belief:
        mean = approximate(batch).mean
        return Belief(FactoredTensors({name: plus(factors(mean, name), lacks[name]) for name in mean}))

    return replay


def disagreement(approximate: Tensors, exact: Tensors) -> float:
    """How far an approximate update is from the exact one: the larger of two relative errors, 0 where they agree.

    One is of the whole update, |approximate - exact| / |exact|. The other is the worst tensor's error of direction, the
    distance between the two unit vectors, sqrt(2 - 2 cosine), so that a small layer cannot hide. Infinite where a
    value is not finite.
    """
    direction, error, total = 0.0, 0.0, 0.0
    pairs = (approximate, approximate), (exact, exact), (approximate, exact)
    for name in exact:
        left, right, both = (float(inner(a, b, name).detach()) for a, b in pairs)
        error += left + right - 2 * both
        total += right
        if right > 0:
            cosine = both / (left * right) ** 0.5 if left > 0 else 0.5  # a zero vector is one unit away from any other
            direction = max(direction, max(2 - 2 * cosine, 0.0) ** 0.5)
    found = max(direction, (max(error, 0.0) / total) ** 0.5 if total else error)
    return found if isfinite(error + direction) else float("inf")


def agrees(
    approximate: Replay, exact: Replay, batch: Batch, misfit: float = 0.0, names: Collection[str] | None = None
) -> bool:
    """Whether two replays of one candidate lie close enough for a search at this misfit.

    Args:
        approximate: A replay.
        exact: The replay that it stands in for.
        batch: The candidate.
        misfit: What the search still has to explain, as a squared relative error; 0 asks for `MIDPOINT_TOLERANCE`.
        names: The tensors that are compared; None is all of them.
    """
    with torch.no_grad():
        left, right = approximate(batch).mean, exact(batch).mean
    if names is not None:
        right = FactoredTensors({name: factors(right, name) for name in right if name in names})
    found = disagreement(left, right)
    return found**2 <= max(MIDPOINT_TOLERANCE**2, MIDPOINT_SHARE * misfit)
