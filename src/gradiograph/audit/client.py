"""The rounds that are attacked: the client sends its updates, the server observes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gradiograph.core.attack import Observation
from gradiograph.core.client import Round, client_update
from gradiograph.core.replay import replay
from gradiograph.core.tensors import Batch, Belief, Tensors, Update
from gradiograph.defences import SummedChannel
from gradiograph.federation import secure_sum
from gradiograph.protocols import SummedProtocol

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Chain, Defence
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task
    from gradiograph.core.threat import ThreatModel

__all__ = ["CapturedRound", "Round", "client_rounds", "client_update", "observe", "server_step"]


@dataclass(frozen=True)
class CapturedRound:
    """A round that happened elsewhere: the state before it, and the update that came back."""

    state: Tensors
    update: Update


def client_rounds(
    task: Task,
    state: Tensors,
    batch: Batch,
    protocol: Protocol,
    defence: Chain,
    seed: int,
    *names: object,
    rounds: int = 1,
    clients: int = 1,
) -> tuple[Round, ...]:
    """The same films trained on in successive rounds of a federation of this one client, or of these clients.

    Each round has random streams of its own; the first one's are those of `client_update`.

    Args:
        task: Model, loss and mode.
        state: Weights and buffers before the first round.
        batch: The client's films; of several clients those of each in turn, as many of one as of another.
        protocol: What it does in each round.
        defence: The channel on each update.
        seed: With `names`, the client's and the defence's random streams.
        names: What tells these rounds from others, such as the batch.
        rounds: How many, at least 1.
        clients: Of how many clients the server sees the sum, as the mean over their films; 1 is a client by itself.
    """
    seen: list[Round] = []
    size = len(batch) // clients
    parts = [batch.part(slice(start, start + size)) for start in range(0, size * clients, size)]
    for count in range(rounds):
        own = (*names, "round", count) if count else names
        sent = [
            client_update(task, state, part, protocol, defence, seed, *own, *(("client", place) if place else ()))
            for place, part in enumerate(parts)
        ]
        update = secure_sum(sent, state) if clients > 1 else sent[0]
        seen.append((state, update))
        state = server_step(state, update, protocol.step_size)
    return tuple(seen)


def of_a_sum(protocol: Protocol, clients: int) -> Protocol:
    """The protocol behind the sum of this many clients' updates: itself where it is one."""
    return SummedProtocol(each=protocol, clients=clients) if clients > 1 else protocol


def channel_of_a_sum(defence: Chain, clients: int) -> Defence:
    """The channel from the mean clean update of this many clients to the mean of what they sent."""
    return SummedChannel(each=defence, clients=clients) if clients > 1 and defence.stages else defence


def server_step(state: Tensors, update: Update, step_size: float) -> dict[str, Tensor]:
    """The state after a round: the server adds what it received from its only client.

    Args:
        state: Weights and buffers before the round; not changed.
        update: What came back. A delta is added; of a gradient, `step_size` times it is taken off.
        step_size: The protocol's.
    """
    scale = 1.0 if update.kind == "delta" else -step_size
    moved = {name: state[name] + scale * tensor for name, tensor in update.tensors.items()}
    buffers = {name: state[name] + change for name, change in update.buffers.items()}
    return {**state, **buffers, **moved}


def observe(
    task: Task,
    state: Tensors,
    update: Update,
    protocol: Protocol,
    defence: Chain,
    threat: ThreatModel,
    labels: Tensor | None,
    later: tuple[Round, ...] = (),
    public: Batch | None = None,
) -> Observation:
    """What the server holds of one round or several, by the threat model. Takes the updates, never the films.

    Args:
        task: Model, loss and mode.
        state: Weights and buffers before the round.
        update: What came back.
        protocol: The client's protocol.
        defence: The client's channel.
        threat: What the server knows.
        labels: int64 (B,), handed on only where the threat model grants them.
        later: The rounds after this one, with the same films.
        public: Films of other patients, handed on only where the threat model grants public data.
    """
    known, shown = threat.knows_protocol, defence if threat.knows_defence else None
    rounds, protocol = ((state, update), *later), of_a_sum(protocol, threat.clients)
    return Observation(
        rounds=rounds,
        num_examples=update.num_examples,
        task=task,
        threat=threat,
        defence=shown and channel_of_a_sum(shown, threat.clients),
        labels=labels if threat.knows_labels else None,
        simulate=partial(_replay, task, tuple(before for before, _ in rounds), protocol, shown) if known else None,
        local_steps=protocol.num_steps(update.num_examples) if known else None,
        local_learning_rate=protocol.step_size if known else None,
        public=public if threat.public_data else None,
    )


def _replay(
    task: Task, states: tuple[Tensors, ...], protocol: Protocol, defence: Chain | None, batch: Batch, round: int = 0
) -> Belief:
    return replay(task, states[round], protocol, defence, batch)
