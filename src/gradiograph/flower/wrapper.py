"""A strategy that does what another one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.serverapp.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
    from flwr.serverapp import Grid


class Wrapper(Strategy):
    """Passes every call on to the strategy within, and remembers what was sent to which node in the round.

    Args:
        strategy: The app's own.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.within = strategy
        self.sent: dict[int, Message] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of the strategy within."""
        messages = list(self.within.configure_train(server_round, arrays, config, grid))
        self.sent = {message.metadata.dst_node_id: message for message in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy within makes of the replies."""
        return self.within.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of the strategy within."""
        return self.within.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the strategy within makes of the replies."""
        return self.within.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The summary of the strategy within."""
        self.within.summary()
