"""A Flower grid that hands every message to a ClientApp in this process, serialised as on a wire."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

FIRST_NODE = 1000


TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as in the processes that Flower starts


def context(partition, node=None, **run_config):
    return Context(
        run_id=1,
        node_id=FIRST_NODE + partition if node is None else node,
        node_config={} if partition is None else {"partition-id": partition},
        state=RecordDict(),
        run_config=run_config,
    )


def over_the_wire(message):
    return message_from_proto(message_to_proto(message))


class LoopbackGrid(Grid):
    """Nodes 1000, 1001, ...; those in `silent` never answer, and replies come in the reverse order."""

    def __init__(self, app, nodes, **run_config):
        self._app, self._run_config = app, run_config
        self.nodes = [FIRST_NODE + node for node in range(nodes)]
        self.place_of = {FIRST_NODE + node: node for node in range(nodes)}
        self.silent, self.node_config = set(), {}
        LoopbackGrid.last = self
        self.replies, self.received, self.sizes = {}, [], []

    run = property(lambda self: None)

    def set_run(self, run):
        raise NotImplementedError

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        pushed = []
        for number, message in enumerate(messages):
            message = over_the_wire(message)
            node = message.metadata.dst_node_id
            vars(message.metadata)["_message_id"] = f"{node}-{len(self.received)}-{number}"  # as Flower's own grids do
            pushed.append(message.metadata.message_id)
            self.received.append(message)
            if node not in self.silent:
                where = context(self.place_of[node], node, **self._run_config)
                where.node_config.update(self.node_config.get(node, {}))
                reply = self._app(message, where)
                self.sizes.append(sum(record.count_bytes() for record in reply.content.values()))
                self.replies[message.metadata.message_id] = over_the_wire(reply)
        return pushed

    def pull_messages(self, message_ids):
        return [self.replies.pop(name) for name in reversed(list(message_ids)) if name in self.replies]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))


def metrics(examples):
    return MetricRecord({"num-examples": examples})


def reply(message, arrays, examples):
    return Message(RecordDict({"arrays": arrays, "metrics": metrics(examples)}), reply_to=message)
