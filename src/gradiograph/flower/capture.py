"""A Flower mod that records at the client what leaves it: for a hospital that does not run the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import MessageType

from gradiograph.flower.records import decoded, only_arrays, round_of, tensors_of
from gradiograph.flower.state_files import write_round

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable, Mod


def capture(folder: str | Path, *, names: Sequence[str] | None = None) -> Mod:
    """A Flower mod that writes the state that the client received and the one that the server can read from its reply.

    Use it as the first mod, before `protect`: `ClientApp(mods=[capture("captured"), ...])`. The files are those of
    `Recording`, in `FOLDER/round-0001/client-ID/`; the round is the app's `server-round`, which Flower's strategies
    send. What is sent is not changed.

    Args:
        folder: Where to write, on the client's machine.
        names: See `write_round`.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN:
            return call_next(message, context)
        _, received = only_arrays(message.content)
        before = tensors_of(received)
        number = round_of(message)
        reply = call_next(message, context)
        if not reply.has_error():
            _, arrays = only_arrays(reply.content)
            place = Path(folder) / f"round-{number:04d}" / f"client-{context.node_id}"
            write_round(place, before, tensors_of(decoded(arrays, received)), names)
        return reply

    return mod
