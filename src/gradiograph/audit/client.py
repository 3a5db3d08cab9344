"""The round that is attacked: the client sends its update, the server observes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gradiograph.core.attack import Observation
from gradiograph.core.defence import Chain, Encoding
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Belief, Tensors, Update

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task
    from gradiograph.core.threat import ThreatModel


@dataclass(frozen=True)
class CapturedRound:
    """A round that happened elsewhere: the state before it, and the update that came back."""

    state: Tensors
    update: Update


def client_update(
    task: Task, state: Tensors, batch: Batch, protocol: Protocol, defence: Chain, seed: int, *names: object
) -> Update:
    """What the client sends: local training, then the defence.

    Args:
        task: Model, loss and mode.
        state: Weights and buffers before the round.
        batch: The client's films.
        protocol: What it does in the round.
        defence: The channel on its update.
        seed: With `names`, the client's and the defence's random streams.
        names: What tells this round from others, such as the batch.
    """
    clean = protocol.local_update(task, state, batch, stream(seed, "client", *names))
    sent = defence.on_update(clean.tensors, stream(seed, "defence", *names))
    encoding = defence.encode(sent, Encoding(num_values=sum(tensor.numel() for tensor in sent.values())))
    buffer_bytes = sum(buffer.numel() * buffer.element_size() for buffer in clean.buffers.values())
    return Update(
        tensors=sent,
        buffers=clean.buffers,
        kind=protocol.kind,
        num_examples=len(batch),
        num_bytes=encoding.num_bytes + buffer_bytes,
    )


def observe(
    task: Task,
    state: Tensors,
    update: Update,
    protocol: Protocol,
    defence: Chain,
    threat: ThreatModel,
    labels: Tensor | None,
) -> Observation:
    """What the server holds of a round, by the threat model. Takes the update, never the films.

    Args:
        task: Model, loss and mode.
        state: Weights and buffers before the round.
        update: What came back.
        protocol: The client's protocol.
        defence: The client's channel.
        threat: What the server knows.
        labels: int64 (B,), handed on only where the threat model grants them.
    """
    known = threat.knows_protocol
    return Observation(
        rounds=((state, update),),
        num_examples=update.num_examples,
        task=task,
        threat=threat,
        defence=defence if threat.knows_defence else None,
        labels=labels if threat.knows_labels else None,
        simulate=partial(_replay, task, state, protocol) if known else None,
        local_steps=protocol.num_steps(update.num_examples) if known else None,
        local_learning_rate=protocol.step_size if known else None,
    )


def _replay(task: Task, state: Tensors, protocol: Protocol, batch: Batch) -> Belief:
    return Belief(protocol.local_update(task, state, batch, None, differentiable=True).tensors)
