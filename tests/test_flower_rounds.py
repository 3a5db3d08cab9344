"""The engine's rounds with Flower's messages: the same weights as in process, and who is missing is left out."""

from functools import partial

import pytest
import torch

from flower_loopback import LoopbackGrid
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadInput, TrainingFailed
from gradiograph.defences import DPSGD, QSGD, Clip, GaussianNoise, SignSGD, TopK
from gradiograph.federation import FedAdam, send, train
from gradiograph.flower.client import client_app
from gradiograph.flower.server import Fleet
from gradiograph.protocols import FedSGD
from test_federation import make

STACKS = {
    "none": (),
    "noise": (Clip(norm=0.1), GaussianNoise(std=1e-3)),
    "sign": (SignSGD(scale="mean_abs"),),
    "top-k and qsgd": (TopK(sparsity=0.9), QSGD(levels=4)),
    "dp-sgd": (DPSGD(clip_norm=1.0, noise_multiplier=0.5),),
}


def app_of(federation, *, answers=send):
    def answer(settings, asked):
        update = answers(federation, asked.state, asked.number, asked.client)
        return update, federation.defence

    return client_app(answer)


def collector(federation, grid, timeout=5.0):
    return partial(Fleet(grid, timeout).collect, "training", federation.task.trainable)


def both(federation, **grid):
    loopback = LoopbackGrid(app_of(federation), len(federation.sites), **grid)
    return train(federation), train(federation, collect=collector(federation, loopback)), loopback


@pytest.mark.parametrize("stack", STACKS)
def test_the_weights_are_those_of_the_engine_bit_by_bit(stack):
    here, flower, _ = both(make(defence=Chain(stages=STACKS[stack]), rounds=2))
    assert all(torch.equal(here.state[name], flower.state[name]) for name in here.state)


@pytest.mark.parametrize("changes", [{"norm": True}, {"protocol": FedSGD()}, {"server": FedAdam()}])
def test_so_they_are_with_buffers_gradients_and_another_server(changes):
    here, flower, _ = both(make(**changes, rounds=2))
    assert all(torch.equal(here.state[name], flower.state[name]) for name in here.state)


def test_only_the_drawn_clients_are_asked():
    here, flower, grid = both(make(sizes=(4, 6, 2, 4), clients_per_round=2, rounds=3))
    assert all(torch.equal(here.state[name], flower.state[name]) for name in here.state)
    drawn = [[1000 + outcome.client for outcome in record.outcomes] for record in flower.history]
    trained = [m.metadata.dst_node_id for m in grid.received if m.metadata.message_type == "train"]
    assert trained == [node for nodes in drawn for node in nodes]


def test_the_bytes_are_those_of_the_messages():
    _, dense, grid = both(make(rounds=1))
    assert [outcome.num_bytes for outcome in dense.history[0].outcomes] == grid.sizes[-3:]
    _, sparse, _ = both(make(defence=Chain(stages=(TopK(sparsity=0.99),)), rounds=1))
    assert sparse.history[0].bytes_up < dense.history[0].bytes_up / 3


def test_a_silent_node_is_left_out_and_the_round_closes():
    federation = make(rounds=1, min_clients=2)
    grid = LoopbackGrid(app_of(federation), 3)
    collect = collector(federation, grid, timeout=0.3)
    list(collect(federation.task.state(), 1, (0, 1, 2)))  # they are known
    grid.silent.add(1001)
    training = train(federation, collect=collect)
    assert [bool(outcome.refused) for outcome in training.history[0].outcomes] == [False, True, False]
    without = train(make(rounds=1, min_clients=2, client=lambda *args: None if args[-1] == 1 else call(*args)))
    assert all(torch.equal(training.state[name], without.state[name]) for name in training.state)


def call(*args):
    from gradiograph.core.client import client_update

    return client_update(*args)


def test_a_node_that_comes_back_as_another_takes_part_again():
    federation = make(rounds=1)
    grid = LoopbackGrid(app_of(federation), 3)
    collect = collector(federation, grid, timeout=0.3)
    state = federation.task.state()
    assert all(list(collect(state, 1, (0, 1, 2))))
    grid.silent.add(1001)  # killed, though Flower still lists it
    assert [bool(update) for update in collect(state, 2, (0, 1, 2))] == [True, False, True]
    grid.nodes.append(2001)
    grid.place_of[2001] = 1
    assert [bool(update) for update in collect(state, 3, (0, 1, 2))] == [True, True, True]


def test_a_node_that_never_answers_is_waited_for_once():
    federation = make(rounds=1)
    grid = LoopbackGrid(app_of(federation), 3)
    grid.silent.add(1002)
    collect = collector(federation, grid, timeout=0.3)
    assert [bool(update) for update in collect(federation.task.state(), 1, (0, 1, 2))] == [True, True, False]
    asked = [m for m in grid.received if m.metadata.message_type == "query" and m.metadata.dst_node_id == 1002]
    list(collect(federation.task.state(), 2, (0, 1, 2)))
    assert len(asked) == 1


def test_too_few_in_time_is_a_failed_training():
    federation = make(rounds=1, min_clients=2)
    grid = LoopbackGrid(app_of(federation), 3)
    grid.silent |= {1000, 1001}
    with pytest.raises(TrainingFailed, match=r"1 of 3 clients sent a usable update.*Client 0 sent nothing"):
        train(federation, collect=collector(federation, grid, timeout=0.2))


def test_an_update_of_another_model_is_left_out():
    federation, other = make(rounds=1), make(rounds=1, norm=True)
    grid = LoopbackGrid(app_of(other, answers=lambda _, state, *names: send(other, other.task.state(), *names)), 3)
    with pytest.raises(TrainingFailed, match="0 of 3"):
        train(federation, collect=collector(federation, grid))


def test_a_node_says_which_client_it_is():
    federation = make(rounds=1)
    grid = LoopbackGrid(app_of(federation), 1)
    grid.place_of[1000] = None
    with pytest.raises(BadInput, match=r"--node-config 'partition-id=N'"):
        list(collector(federation, grid)(federation.task.state(), 1, (0,)))
