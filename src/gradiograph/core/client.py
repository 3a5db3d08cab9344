"""One client's part in a round: local training, then its defence. The same step for an audit and for a federation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.defence import Chain, Encoding
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Tensors, Update

if TYPE_CHECKING:
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task

Round = tuple[Tensors, Update]
"""The state before a round, and the update that came back."""


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
    clean = protocol.local_update(task, state, batch, stream(seed, "client", *names), defence=defence)
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
