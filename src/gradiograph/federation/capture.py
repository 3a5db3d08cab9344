"""What the server saw in a round that is over, for the attacks that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.errors import BadSetting
from gradiograph.federation.aggregation import secure_sum
from gradiograph.federation.engine import drawn, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.core.client import Round
    from gradiograph.core.tensors import Tensors
    from gradiograph.federation.federation import Federation
    from gradiograph.federation.training import Training


def capture(federation: Federation, training: Training, number: int, client: int) -> Round:
    """The state before a round and what a client sent in it.

    The update is made again from the kept state and the client's named streams, which gives it bit by bit: nothing
    needs to be stored in the round itself. For several rounds of one client, capture each.

    Args:
        federation: As it was trained.
        training: With the state before the round among its kept ones; the first round's is always known.
        number: The round, from 1.
        client: One that was drawn in it.

    Raises:
        BadSetting: the round's state was not kept, or the client had no part in it or sent nothing.
    """
    state = _state_before(federation, training, number)
    taking_part = drawn(federation, number)
    update = send(federation, state, number, client) if client in taking_part else None
    if update is None:
        others = ", ".join(map(str, taking_part))
        msg = f"Client {client} sent nothing in round {number}; the clients of that round are {others}."
        raise BadSetting(msg)
    return state, update


def capture_sum(federation: Federation, training: Training, number: int, clients: Sequence[int]) -> Round:
    """The state before a round and, under secure aggregation, the sum of what these clients sent in it.

    Args:
        federation: As it was trained.
        training: See `capture`.
        number: The round, from 1.
        clients: At least one, all drawn in that round.

    Raises:
        BadSetting: see `capture`; or no client is named.
    """
    if not clients:
        msg = "Secure aggregation over no client shows nothing; name at least one."
        raise BadSetting(msg)
    rounds = [capture(federation, training, number, client) for client in clients]
    state, _ = rounds[0]
    return state, secure_sum([update for _, update in rounds], state)


def _state_before(federation: Federation, training: Training, number: int) -> Tensors:
    if number == 1:
        return federation.task.state()
    if number not in training.kept:
        known = ", ".join(map(str, sorted({1, *training.kept})))
        msg = f"The state before round {number} was not kept; kept are {known}. Name the round in `keep` and train."
        raise BadSetting(msg)
    return training.kept[number]
