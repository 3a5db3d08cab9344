"""A strategy wrapper that records what the server sees of each client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradiograph.flower.records import decoded, only_arrays, tensors_of
from gradiograph.flower.state_files import write_round
from gradiograph.flower.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from flwr.app import ArrayRecord, Message, MetricRecord
    from flwr.serverapp.strategy import Strategy


class Recording(Wrapper):
    """Writes, for every client and round, the state that it was sent and the state that came back.

    `FOLDER/round-0001/client-ID/before.pt` and `after.pt` are what `gradiograph run FILE --update BEFORE AFTER` reads.
    The files hold weights that were trained on patients: they are readable by their owner only. The replies
    themselves are not changed.

    Args:
        strategy: The app's own strategy.
        folder: Where to write.
        rounds: Which rounds; None is all.
        names: See `write_round`: the model's names, where the app sends a list of arrays without names.
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: str | Path,
        *,
        rounds: Collection[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(strategy)
        self._folder, self._rounds, self._names = Path(folder), rounds, names

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Record the replies and hand them on."""
        came = list(replies)
        for reply in came:
            if not reply.has_error() and (self._rounds is None or server_round in self._rounds):
                self._record(server_round, reply)
        return super().aggregate_train(server_round, came)

    def _record(self, server_round: int, reply: Message) -> None:
        node = reply.metadata.src_node_id
        _, received = only_arrays(self.sent[node].content)
        _, arrays = only_arrays(reply.content)
        after = tensors_of(decoded(arrays, received))
        folder = self._folder / f"round-{server_round:04d}" / f"client-{node}"
        write_round(folder, tensors_of(received), after, self._names)
