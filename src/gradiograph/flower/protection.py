"""Our protections as a Flower mod: on what the client changed, before it leaves the client."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from flwr.app import ArrayRecord, MessageType

from gradiograph.core.defence import Chain, Defence
from gradiograph.core.errors import BadInput
from gradiograph.core.random import stream
from gradiograph.flower.records import arrays_of, encoded, only_arrays, round_of, tensors_of
from gradiograph.flower.wire import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable, Mod

RUNNING_STATISTICS = ("*running_mean", "*running_var", "*num_batches_tracked")
"""BatchNorm's buffers: noise would make a variance negative, and they are no part of a clipped change."""


def protect(
    *defences: Defence, encoding: bool = True, unprotected: Sequence[str] = RUNNING_STATISTICS, seed: int | None = None
) -> Mod:
    """A Flower mod that sends a training's change, reply minus received, through these defences.

    Use it as the first mod of the app, so that nothing changes the reply behind it: `ClientApp(mods=[protect(...)])`;
    only `capture` may stand before it, to see what leaves.

    Args:
        defences: Applied in this order.
        encoding: Send the change in as few bytes as its values allow; the server's strategy then needs `Decoding`.
            Otherwise send received plus protected change, which any strategy reads and which saves no bytes.
        unprotected: Patterns of names that are sent as the app made them. So are arrays of whole numbers.
        seed: For repeatable experiments only: whoever knows it can take the noise off again. None draws from the
            operating system.

    Raises:
        BadInput: a defence acts within local training. By the mod: the app's messages have no one ArrayRecord, or the
            reply's names or shapes are not those received.
    """
    chain = Chain(stages=defences)
    if chain.example_stage:
        msg = (
            f"{type(chain.example_stage).__name__} acts on the gradients of single examples, and a mod sees only what "
            "training made of them all. Build it into the app's training, with Opacus for instance."
        )
        raise BadInput(msg)

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type.partition(".")[0] != MessageType.TRAIN:
            return call_next(message, context)
        _, received = only_arrays(message.content)
        before = tensors_of(received)  # taken now: the app may change its arrays in place
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        key, arrays = only_arrays(reply.content)
        after = tensors_of(arrays)
        _require_same(before, after)
        names = [name for name in before if _is_protected(name, before[name], unprotected)]
        change = {name: after[name] - before[name] for name in names}
        sent = chain.on_update(change, _generator(seed, message, context))
        if encoding:
            rest = {name: array for name, array in arrays.items() if name not in sent}
            reply.content[key] = ArrayRecord({**encoded(encode(sent, chain), names, received), **rest})
        else:
            reply.content[key] = arrays_of({n: before[n] + sent[n] if n in sent else after[n] for n in after})
        return reply

    return mod


def _require_same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    if {n: t.shape for n, t in before.items()} != {n: t.shape for n, t in after.items()}:
        msg = (
            f"The app received {len(before)} arrays and replies with {len(after)}, of which some differ in name or "
            "shape: what it changed is not defined. Reply with the same arrays."
        )
        raise BadInput(msg)


def _is_protected(name: str, tensor: torch.Tensor, unprotected: Sequence[str]) -> bool:
    return tensor.is_floating_point() and not any(fnmatchcase(name, pattern) for pattern in unprotected)


def _generator(seed: int | None, message: Message, context: Context) -> torch.Generator:
    if seed is None:
        generator = torch.Generator()
        generator.seed()
        return generator
    place = context.node_config.get("partition-id", context.node_id)
    return stream(seed, "defence", "federation", round_of(message), place)
