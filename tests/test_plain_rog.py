"""The preset `rog` against the same search written out plainly, and the benchmark that times both."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import gradiograph.attacks
import gradiograph.protocols
import gradiograph.tasks  # noqa: F401 - registers the tasks
from gradiograph.audit.client import client_update, observe
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch, Reconstruction
from gradiograph.core.threat import ThreatModel

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SHAPE = (3, 16, 16)
STEPS, LOCAL_STEPS, RATE = 10, 3, 1e-2


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plain search; the benchmarks are no package."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("plain_rog")


def preset_and_plain(plain: ModuleType, name: str, seed: int) -> tuple[Reconstruction, object]:
    task = build("task", {"use": name}, SHAPE, 3)
    protocol = build("protocol", {"use": "fedavg", "local_steps": LOCAL_STEPS, "learning_rate": RATE})
    labels = torch.tensor([0, 1])
    films = torch.rand(2, *SHAPE, generator=stream(seed, "films"))
    update = client_update(task, task.state(), Batch(films, labels), protocol, Chain(), seed)
    observation = observe(task, task.state(), update, protocol, Chain(), ThreatModel(knows_labels=True), labels)
    ours = build("attack", {"use": "rog", "steps": STEPS})(observation, stream(seed, "attack"), lambda _: None)
    theirs = plain.plain_rog(
        task.model,
        update.tensors,
        labels,
        SHAPE,
        stream(seed, "attack"),
        local_steps=LOCAL_STEPS,
        local_learning_rate=RATE,
        steps=STEPS,
    )
    return ours, theirs


@pytest.mark.parametrize("name", ["lenet", pytest.param("resnet_wide_head", marks=pytest.mark.slow)])
def test_preset_follows_the_plain_search(plain: ModuleType, name: str) -> None:
    ours, theirs = preset_and_plain(plain, name, 7)
    assert len(ours.objective) == len(theirs.objective) == STEPS
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-4)
    assert ours.objective[-1] < 0.8 * ours.objective[0]


def test_another_seed_takes_another_path(plain: ModuleType) -> None:
    first, _ = preset_and_plain(plain, "lenet", 7)
    second, _ = preset_and_plain(plain, "lenet", 8)
    assert first.objective != pytest.approx(second.objective, rel=1e-3)


def test_plain_replay_is_that_of_torch_optim(plain: ModuleType) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    weights = {name: parameter.detach().clone().requires_grad_() for name, parameter in network.named_parameters()}
    images, labels = torch.rand(4, 3, 2, 2, generator=stream(1), dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    replayed = plain.train(network, weights, images, labels, 5, 0.3)
    sgd = torch.optim.SGD(network.parameters(), lr=0.3)
    for _ in range(5):
        sgd.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        sgd.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(replayed[name], parameter)


def test_benchmark_prints_every_search_and_its_ratio(plain: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench = importlib.import_module("bench")
    assert bench.plain_rog is plain.plain_rog
    bench.main(["--tasks", "lenet", "--size", "16", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    for name in ("plain ROG", "dlg (an iteration, a step has 20)", "idlg", "inverting_gradients", "rog"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        median, least, most, _, ratio = map(float, line.split()[-5:])
        assert 0 < least <= median <= most
        assert ratio > 0
    assert not any("released code" in line for line in lines)
