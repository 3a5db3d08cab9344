"""Protections and captures in somebody's Flower app: mods at the client, wrappers at the server."""

import stat
import subprocess
import sys

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

from flower_loopback import LoopbackGrid, context, over_the_wire, reply
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput
from gradiograph.core.random import global_stream, stream
from gradiograph.defences import DPSGD, QSGD, Clip, GaussianNoise, SignSGD, TopK, UniformQuantisation
from gradiograph.flower import Decoding, Recording, capture, protect
from gradiograph.tasks import load_into, load_state

with global_stream(3, "flower"):
    MODEL = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30), nn.Linear(30, 2))
STATE = MODEL.state_dict()
EXAMPLES = (4, 6, 2)


def changed(state, partition):
    """What an app's local training makes of the state: any change, another one at each client."""
    made = {}
    for name, tensor in state.items():
        drawn = torch.randn(tensor.shape, generator=stream(5, name, partition)) * 1e-2
        made[name] = tensor + drawn if tensor.is_floating_point() else tensor + 1
    return made


def make_app(*mods):
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message, context):
        partition = context.node_config["partition-id"]
        state = message.content["arrays"].to_torch_state_dict()
        return reply(message, ArrayRecord(changed(state, partition)), EXAMPLES[partition])

    @app.evaluate()
    def evaluate(message, context):
        return reply(message, message.content["arrays"], 1)

    return app


def train(app, strategy=None, rounds=1):
    strategy = strategy or FedAvg()
    grid = LoopbackGrid(app, len(EXAMPLES))
    arrays = ArrayRecord(STATE)
    for number in range(1, rounds + 1):
        messages = strategy.configure_train(number, arrays, ConfigRecord(), grid)
        arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages))
    return arrays.to_torch_state_dict()


def message(node=1000, kind="train"):
    return Message(RecordDict({"arrays": ArrayRecord(STATE), "config": ConfigRecord({"server-round": 1})}), node, kind)


def mean(states):
    total = sum(EXAMPLES)
    return {n: sum(e * s[n].double() for e, s in zip(EXAMPLES, states, strict=True)) / total for n in STATE}


def close(found, expected, tolerance=1e-6):
    return all(float((found[name].double() - expected[name].double()).abs().max()) < tolerance for name in expected)


STACKS = {
    "none": (),
    "clip": (Clip(norm=0.1),),
    "noise": (GaussianNoise(std=1e-3),),
    "3 bits": (UniformQuantisation(bits=3),),
    "qsgd": (QSGD(levels=8, bucket=16),),
    "sign": (SignSGD(),),
    "stack": (Clip(norm=0.1), TopK(sparsity=0.9), QSGD(levels=4)),
}
LEARNT = [name for name in STATE if "running" not in name and "num_batches" not in name]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("encoding", [True, False])
def test_the_defence_acts_on_reply_minus_received(stack, encoding):
    chain = Chain(stages=STACKS[stack])
    strategy = Decoding(FedAvg()) if encoding else FedAvg()
    found = train(make_app(protect(*STACKS[stack], encoding=encoding, seed=7)), strategy)
    expected = []
    for place in range(len(EXAMPLES)):
        after = changed(STATE, place)
        change = {name: after[name] - STATE[name] for name in LEARNT}
        sent = chain.on_update(change, stream(7, "defence", "federation", 1, place))
        expected.append({**after, **{name: STATE[name] + sent[name] for name in LEARNT}})
    assert close(found, mean(expected))


def test_without_a_defence_the_app_is_as_it_was():
    assert close(train(make_app(protect()), Decoding(FedAvg())), train(make_app()))


def test_the_mod_saves_bytes_and_the_wrapper_counts_them_from_the_message():
    counted = {}
    for name, mods in {"plain": (), "3 bits": (protect(UniformQuantisation(bits=3)),)}.items():
        strategy = Decoding(FedAvg())
        train(make_app(*mods), strategy)
        counted[name] = strategy.bytes_up[1]
    whole = sum(record.count_bytes() for record in make_app()(message(), context(0)).content.values())
    assert counted["plain"] == 3 * whole
    assert counted["3 bits"] < counted["plain"] / 2
    answer = make_app(protect(UniformQuantisation(bits=3)))(message(), context(0))
    assert len(over_the_wire(answer).content["arrays"]["gradiograph.encoded"].data) < 4 * 722 * 3 / 32 + 200


def test_noise_without_a_seed_is_never_the_same():
    app = make_app(protect(GaussianNoise(std=1e-3), encoding=False))
    first, second = (app(message(), context(0)).content["arrays"].to_torch_state_dict() for _ in range(2))
    assert not torch.equal(first["0.weight"], second["0.weight"])


def test_other_messages_pass_through():
    app = make_app(capture("nowhere"), protect(SignSGD()))
    answer = app(message(kind="evaluate"), context(0))
    assert torch.equal(answer.content["arrays"].to_torch_state_dict()["0.weight"], STATE["0.weight"])


def test_a_reply_of_other_arrays_is_refused():
    app = ClientApp(mods=[protect(SignSGD())])

    @app.train()
    def train(message, context):
        return reply(message, ArrayRecord({"w": torch.zeros(3)}), 1)

    with pytest.raises(BadInput, match="received 9 arrays and replies with 1"):
        app(message(), context(0))


def test_two_records_of_arrays_are_refused():
    two = Message(RecordDict({"a": ArrayRecord(STATE), "b": ArrayRecord(STATE)}), 1000, "train")
    with pytest.raises(BadInput, match="2 ArrayRecords"):
        make_app(protect(SignSGD()))(two, context(0))


def test_the_server_records_what_it_sees(tmp_path):
    strategy = Recording(FedAvg(), tmp_path, rounds=[2])
    found = train(make_app(), strategy, rounds=2)
    assert close(found, train(make_app(), rounds=2))  # recording changes nothing
    assert [path.name for path in tmp_path.iterdir()] == ["round-0002"]
    folder = tmp_path / "round-0002" / "client-1001"
    before, after = (load_state(folder / name) for name in ("before.pt", "after.pt"))
    load_into(MODEL, after)
    assert all(torch.equal(after[name], tensor) for name, tensor in changed(before, 1).items())
    for path in (tmp_path / "round-0002", folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "after.pt").stat().st_mode) == 0o600


@pytest.mark.parametrize("wrap", [lambda f, s: Decoding(Recording(s, f)), lambda f, s: Recording(Decoding(s), f)])
def test_a_protected_client_is_recorded_as_the_server_decodes_it(tmp_path, wrap):
    app = make_app(capture(tmp_path / "client"), protect(TopK(sparsity=0.9)))
    train(app, wrap(tmp_path / "server", FedAvg()))
    for client in ("client-1000", "client-1002"):
        pairs = []
        for side in ("client", "server"):
            folder = tmp_path / side / "round-0001" / client
            before, after = (load_state(folder / name) for name in ("before.pt", "after.pt"))
            pairs.append(after)
            moved = after["0.weight"] - before["0.weight"]
            assert int((moved != 0).sum()) == 60
        assert all(torch.equal(pairs[0][name], pairs[1][name]) for name in STATE)


def test_arrays_without_names_get_the_models(tmp_path):
    app = ClientApp(mods=[capture(tmp_path, names=list(STATE))])

    @app.train()
    def train(message, context):
        return reply(message, message.content["arrays"], 1)

    arrays = ArrayRecord([tensor.numpy() for tensor in STATE.values()])
    app(Message(RecordDict({"arrays": arrays}), 1000, "train"), context(0))
    load_into(MODEL, load_state(tmp_path / "round-0000" / "client-1000" / "after.pt"))
    wrong = ClientApp(mods=[capture(tmp_path, names=["a", "b"])])
    wrong.train()(train)
    with pytest.raises(BadInput, match="2 names are given for 9 arrays"):
        wrong(Message(RecordDict({"arrays": arrays}), 1000, "train"), context(0))


def test_a_client_that_fails_is_the_strategys_business(tmp_path):
    strategy = Decoding(Recording(FedAvg(), tmp_path))
    grid = LoopbackGrid(make_app(), len(EXAMPLES))
    replies = list(grid.send_and_receive(strategy.configure_train(1, ArrayRecord(STATE), ConfigRecord(), grid)))
    replies[0] = Message(Error(code=0, reason="broken"), reply_to=grid.received[2])
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert len(list((tmp_path / "round-0001").iterdir())) == 2


def test_a_defence_within_local_training_is_no_mod():
    with pytest.raises(BadInput, match="DPSGD acts on the gradients of single examples"):
        protect(Clip(norm=1.0), DPSGD(clip_norm=1.0, noise_multiplier=1.0))


def test_without_flower_the_error_says_what_to_install():
    program = "import sys; sys.modules['flwr'] = None; import gradiograph.flower"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "MissingExtra: Flower is not installed" in found.stderr
    assert "gradiograph[flower]" in found.stderr
