"""Training in rounds, in one process. All that happens follows from the federation and the round's number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from gradiograph.core.errors import TrainingFailed
from gradiograph.core.random import stream
from gradiograph.core.rounds import Outcome, RoundRecord
from gradiograph.federation.aggregation import WeightedSum, refusal
from gradiograph.federation.training import Training, untrained

if TYPE_CHECKING:
    from gradiograph.core.tensors import Tensors, Update
    from gradiograph.federation.federation import Federation

Evaluate = Callable[["Tensors"], Mapping[str, float | None]]
"""Scores of a state by name; None is undefined."""
Collect = Callable[["Tensors", int, tuple[int, ...]], Iterator["Update | None"]]
"""What these clients send in the round of this number, which begins with this state: in their order, None for one that
sends nothing."""


def train(
    federation: Federation,
    *,
    start: Training | None = None,
    keep: Callable[[Training], None] = lambda _: None,
    evaluate: Evaluate = lambda _: {},
    collect: Collect | None = None,
) -> Training:
    """Train from `start` to the last round.

    Args:
        federation: Sites, task, protocol, defence, server and rounds.
        start: Where an interrupted training stood, from `unpack`; None begins with the task's own weights. The result
            is that of an uninterrupted one, bit by bit.
        keep: Called with the training after every round, to write a checkpoint.
        evaluate: Called with the state after every round.
        collect: Has the clients train elsewhere; None is here, one after the other.

    Raises:
        TrainingFailed: too few usable updates in a round, or weights that are not finite.
    """
    training = start or untrained(federation)
    while training.round < federation.rounds.rounds:
        training = next_round(federation, training, evaluate, collect)
        keep(training)
    return training


def next_round(
    federation: Federation,
    training: Training,
    evaluate: Evaluate = lambda _: {},
    collect: Collect | None = None,
) -> Training:
    """The training one round later: clients are drawn, train and send; what is usable is averaged; the server steps.

    Raises:
        TrainingFailed: see `train`.
    """
    number, state, started = training.round + 1, training.state, perf_counter()
    stage = federation.defence.mean_stage
    total, outcomes = WeightedSum(stage.client_weight) if stage else WeightedSum(), []
    clients = drawn(federation, number)
    updates = (collect or partial(_send_each, federation))(state, number, clients)
    for client in clients:
        update = next(updates, None)
        refused = refusal(update, federation.task, federation.protocol, state)
        outcomes.append(Outcome(client=client, num_bytes=update.num_bytes if update else 0, refused=refused))
        if update is not None and not refused:
            total.add(update)
        del update  # before the next one is made
    _require_enough(federation, number, outcomes)
    mean, buffers = total.mean(state, expected_weight(federation))
    if stage:
        drawn_from = stream(federation.seed, "federation", "aggregator", number)
        mean = dict(stage.on_mean(mean, expected_weight(federation) or 1.0, drawn_from))
    direction = mean if federation.protocol.kind == "delta" else {name: -tensor for name, tensor in mean.items()}
    weights = {name: state[name] for name in federation.task.trainable}
    moved, memory = federation.server.step(weights, direction, training.memory)
    after = {**state, **{name: state[name] + change for name, change in buffers.items()}, **moved}
    _require_finite(number, after)
    record = RoundRecord(
        number=number,
        outcomes=tuple(outcomes),
        bytes_down=len(outcomes) * sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
        seconds=perf_counter() - started,
        scores=evaluate(after),
    )
    kept = {**training.kept, number: state} if number in federation.rounds.keep else training.kept
    return replace(training, state=after, memory=memory, history=(*training.history, record), kept=kept)


def expected_weight(federation: Federation) -> float | None:
    """The sum of the clients' weights in a round, on average: fixed. None where no defence weighs them."""
    stage, sites = federation.defence.mean_stage, federation.sites
    if stage is None:
        return None
    share = federation.rounds.drawn(len(sites)) / len(sites)
    return share * sum(stage.client_weight(site.num_examples) for site in sites)


def drawn(federation: Federation, number: int) -> tuple[int, ...]:
    """The clients of a round, in order; without replacement."""
    sites = len(federation.sites)
    order = torch.randperm(sites, generator=stream(federation.seed, "federation", "clients", number))
    return tuple(sorted(order[: federation.rounds.drawn(sites)].tolist()))


def send(federation: Federation, state: Tensors, number: int, client: int) -> Update | None:
    """What a client sends in a round that begins with this state; each round and client has streams of its own."""
    return federation.client(
        federation.task,
        state,
        federation.sites[client].read(),
        federation.protocol,
        federation.defence,
        federation.seed,
        "federation",
        number,
        client,
    )


def _send_each(
    federation: Federation, state: Tensors, number: int, clients: tuple[int, ...]
) -> Iterator[Update | None]:
    for client in clients:
        yield send(federation, state, number, client)


def _require_enough(federation: Federation, number: int, outcomes: list[Outcome]) -> None:
    refused = [outcome for outcome in outcomes if outcome.refused]
    usable, needed = len(outcomes) - len(refused), max(1, federation.rounds.min_clients)
    if usable < needed:
        msg = (
            f"Round {number}: {usable} of {len(outcomes)} clients sent a usable update, min_clients is {needed}. "
            f"Client {refused[0].client} {refused[0].refused}. Lower the learning rate or the noise where values are "
            "not finite, or min_clients."
        )
        raise TrainingFailed(msg)


def _require_finite(number: int, state: Tensors) -> None:
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        msg = f"Round {number}: the server's '{broken[0]}' is no longer finite. Lower the server's learning rate."
        raise TrainingFailed(msg)
