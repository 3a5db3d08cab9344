"""Our server as a Flower app: it has the connected nodes train, and takes what comes back in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic, sleep
from typing import cast

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from gradiograph.core.errors import BadInput
from gradiograph.core.tensors import Tensors, Update
from gradiograph.flower.client import PLACE, Settings, ask
from gradiograph.flower.records import ENCODED, bytes_of, tensors_of
from gradiograph.flower.wire import decode

_LONGEST_PAUSE = 0.5


def server_app(run: Callable[[Callable[[float], Fleet], Settings], None]) -> ServerApp:
    """A Flower ServerApp that calls `run` with the way to its nodes, for a timeout, and the run's settings."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run(partial(Fleet, grid), context.run_config)

    return app


class Fleet:
    """The nodes of a Flower run, each of which is one client.

    A node that joins is asked once which client it is. Where several say the same, the last one counts: a SuperNode
    that was started anew is another node to Flower.

    Args:
        grid: Flower's way to them.
        timeout: Seconds after which a round, or the wait for the first nodes, goes on without those that are missing.
    """

    def __init__(self, grid: Grid, timeout: float) -> None:
        self._grid, self._timeout = grid, timeout
        self._clients: dict[int, int] = {}
        self._questions: dict[str, int] = {}
        self._met = False

    def collect(
        self, training: str, trainable: tuple[str, ...], state: Tensors, number: int, clients: tuple[int, ...]
    ) -> Iterator[Update | None]:
        """What these clients send in a round, in their order; None for those who do not answer in time.

        Args:
            training: Which training, for the clients.
            trainable: Names of the parameters of an update.
            state: Before the round.
            number: The round.
            clients: Those that take part.
        """
        nodes = self._nodes(clients)
        content = ask(training, number, state)
        like = {name: state[name] for name in trainable}
        replies = self._exchange(
            Message(content, node, MessageType.TRAIN, ttl=self._timeout) for node in nodes.values()
        )
        for client in clients:
            reply = replies.get(nodes.get(client, -1))
            yield None if reply is None else _update(reply, like)

    def _nodes(self, wanted: tuple[int, ...]) -> dict[int, int]:
        """The node of each wanted client that is connected."""
        deadline, pause = monotonic() + self._timeout, 0.02
        questions: set[str] = set()  # a node that did not answer in an earlier round is not waited for again
        while True:
            live = set(self._grid.get_node_ids())
            questions |= self._question(live)
            self._listen()
            found = {client: node for node, client in self._clients.items() if node in live}
            complete = set(wanted) <= set(found)
            waiting = bool(questions & set(self._questions)) or not (complete or self._met)
            if not waiting or monotonic() > deadline:
                self._met = True
                return {client: found[client] for client in wanted if client in found}
            pause = _slept(pause)

    def _question(self, live: set[int]) -> set[str]:
        """Ask every node that was not asked yet which client it is; the questions by id."""
        fresh = sorted(live - set(self._clients) - set(self._questions.values()))
        pushed = self._push(Message(RecordDict(), node, MessageType.QUERY, ttl=self._timeout) for node in fresh)
        self._questions |= pushed
        return set(pushed)

    def _listen(self) -> None:
        for reply in self._grid.pull_messages(list(self._questions)) if self._questions else ():
            node = self._questions.pop(reply.metadata.reply_to_message_id, None)
            if node is not None and not reply.has_error():
                self._clients[node] = cast("int", reply.content.metric_records["place"][PLACE])

    def _exchange(self, messages: Iterable[Message]) -> dict[int, Message]:
        """The replies without an error that come in time, by node."""
        waiting, came = self._push(messages), {}
        deadline, pause = monotonic() + self._timeout, 0.02  # sending a large state takes its own time
        while waiting and monotonic() < deadline:
            for reply in self._grid.pull_messages(list(waiting)):
                node = waiting.pop(reply.metadata.reply_to_message_id, None)
                if node is not None and not reply.has_error():
                    came[node] = reply
            pause = _slept(pause) if waiting else pause
        return came

    def _push(self, messages: Iterable[Message]) -> dict[str, int]:
        """Send messages; the node by the id of each that was sent."""
        sent = list(messages)
        nodes = [message.metadata.dst_node_id for message in sent]
        return {name: node for name, node in zip(self._grid.push_messages(sent), nodes, strict=False) if name}


def _slept(pause: float) -> float:
    """Wait, and say how long to wait the next time: longer, up to a bound."""
    sleep(pause)
    return min(2 * pause, _LONGEST_PAUSE)


def _update(reply: Message, like: Tensors) -> Update | None:
    """The update in a reply; None where it is none."""
    try:
        content = reply.content
        about = content.metric_records["about"]
        return Update(
            tensors=decode(content.array_records["update"][ENCODED].data, like),
            buffers=tensors_of(content.array_records["buffers"]),
            kind="gradient" if about["gradient"] else "delta",
            num_examples=int(cast("int", about["num-examples"])),
            num_bytes=bytes_of(reply),
        )
    except (BadInput, KeyError, TypeError, ValueError, EOFError):  # whatever a foreign client put there
        return None
