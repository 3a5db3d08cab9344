"""A strategy wrapper that decodes what `protect` encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.flower.records import bytes_of, decoded, only_arrays
from gradiograph.flower.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import ArrayRecord, Message, MetricRecord
    from flwr.serverapp.strategy import Strategy


class Decoding(Wrapper):
    """Hands on every reply as the state that the client's change leads to, so that any strategy can aggregate it.

    Args:
        strategy: The app's own strategy.

    Attributes:
        bytes_up: Bytes of the replies in each round so far, counted from the messages.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__(strategy)
        self.bytes_up: dict[int, int] = {}

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy within makes of the decoded replies."""
        came = list(replies)
        self.bytes_up[server_round] = sum(bytes_of(reply) for reply in came if not reply.has_error())
        for reply in came:
            if reply.has_error():
                continue
            _, received = only_arrays(self.sent[reply.metadata.src_node_id].content)
            key, arrays = only_arrays(reply.content)
            reply.content[key] = decoded(arrays, received)
        return super().aggregate_train(server_round, came)
