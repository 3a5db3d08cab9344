"""Our client as a Flower app: it trains as one client of an audit's federation and sends its encoded update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from gradiograph.core.defence import Defence
from gradiograph.core.errors import BadInput
from gradiograph.core.tensors import Update
from gradiograph.flower.records import ENCODED, arrays_of, tensors_of
from gradiograph.flower.wire import encode

if TYPE_CHECKING:
    from flwr.app import Context

    from gradiograph.core.tensors import Tensors

PLACE = "partition-id"
"""The key of a node's settings that says which client it is; Flower's simulation sets it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the server asks of a client.

    Attributes:
        training: Which training of the audit.
        number: The round, from 1.
        client: Which client of the federation.
        state: Weights and buffers before the round.
    """

    training: str
    number: int
    client: int
    state: Tensors = field(repr=False)


Settings = Mapping[str, object]
"""Those of the run and of the node, by key."""
Answer = Callable[[Settings, Asked], tuple[Update, Defence]]
"""The client's update, and the defence that it went through."""


def client_app(answer: Answer) -> ClientApp:
    """A Flower ClientApp that says which client it is, and answers what it is asked."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return Message(RecordDict({"place": MetricRecord({PLACE: _place(context)})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        about = message.content.config_records["asked"]
        asked = Asked(
            training=cast("str", about["training"]),
            number=cast("int", about["server-round"]),
            client=_place(context),
            state=tensors_of(message.content.array_records["state"]),
        )
        update, defence = answer({**context.run_config, **context.node_config}, asked)
        return Message(_packed(update, defence), reply_to=message)

    return app


def ask(training: str, number: int, state: Tensors) -> RecordDict:
    """The content of the message that `client_app` answers."""
    asked = ConfigRecord({"training": training, "server-round": number})
    return RecordDict({"state": arrays_of(state), "asked": asked})


def _place(context: Context) -> int:
    place = context.node_config.get(PLACE)
    if not isinstance(place, int):
        msg = f"This SuperNode does not say which client it is: start it with --node-config '{PLACE}=N', N from 0."
        raise BadInput(msg)
    return place


def _packed(update: Update, defence: Defence) -> RecordDict:
    content = encode(update.tensors, defence)
    encoded = Array(dtype="uint8", shape=(len(content),), stype=ENCODED, data=content)
    return RecordDict(
        {
            "update": ArrayRecord({ENCODED: encoded}),
            "buffers": arrays_of(update.buffers),
            "about": MetricRecord({"num-examples": update.num_examples, "gradient": int(update.kind == "gradient")}),
        }
    )
