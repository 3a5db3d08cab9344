"""Between Flower's records and our tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import Array, ArrayRecord

from gradiograph.core.errors import BadInput
from gradiograph.flower.wire import decode

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from torch import Tensor

    from gradiograph.core.tensors import Tensors

ENCODED = "gradiograph.encoded"
"""The name of the one array that holds an encoded change, and how it is written."""
_ORDER = "gradiograph.protected"
"""The name of the empty array whose shape says which of the received arrays the change is of."""


def tensors_of(record: ArrayRecord) -> dict[str, Tensor]:
    """The arrays of a record by name."""
    return dict(record.to_torch_state_dict())


def arrays_of(tensors: Tensors) -> ArrayRecord:
    """A record of these tensors, in order."""
    return ArrayRecord({name: Array(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()})


def only_arrays(content: RecordDict) -> tuple[str, ArrayRecord]:
    """The key and value of a message's one record of arrays.

    Raises:
        BadInput: it has none or several, so that reply minus received is not defined.
    """
    records = list(content.array_records.items())
    if len(records) != 1:
        msg = f"A message has {len(records)} ArrayRecords; Gradiograph reads messages with one. Put the model into one."
        raise BadInput(msg)
    return records[0]


def bytes_of(message: Message) -> int:
    """The size of a message's records, as Flower counts it: arrays, metrics, settings and their keys."""
    return sum(record.count_bytes() for record in message.content.values())


def round_of(message: Message) -> int:
    """The round, as Flower's strategies write it into a message's settings; 0 where they do not."""
    rounds = [record.get("server-round") for record in message.content.config_records.values()]
    return next((number for number in rounds if isinstance(number, int)), 0)


def encoded(content: bytes, names: list[str], received: ArrayRecord) -> dict[str, Array]:
    """The arrays of an encoded change, and of which of the received arrays it is one."""
    places = tuple(place for place, name in enumerate(received) if name in set(names))
    return {
        ENCODED: Array(dtype="uint8", shape=(len(content),), stype=ENCODED, data=content),
        _ORDER: Array(dtype="uint8", shape=places, stype=ENCODED, data=b""),
    }


def decoded(reply: ArrayRecord, received: ArrayRecord) -> ArrayRecord:
    """What a client would have sent without encoding: the received arrays plus the change; others as they came.

    Args:
        reply: The client's arrays; returned as they are where nothing is encoded.
        received: What was sent to the client.

    Raises:
        BadInput: the encoded change does not fit what was sent.
    """
    if ENCODED not in reply:
        return reply
    state, names = tensors_of(received), list(received)
    changed = [names[place] for place in reply[_ORDER].shape if place < len(names)]
    change = decode(reply[ENCODED].data, {name: state[name] for name in changed})
    others = tensors_of(ArrayRecord({name: array for name, array in reply.items() if name in received}))
    after = {**state, **others, **{name: state[name] + change[name] for name in changed}}
    return arrays_of({name: after[name] for name in names})
