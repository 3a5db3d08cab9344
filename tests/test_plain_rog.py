"""The preset `rog` against the same search written out plainly, and the benchmark that times both."""

from __future__ import annotations

import importlib
from collections.abc import Callable
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
from gradiograph.core.fitted import require_disjoint
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
    assert bench.Round.plain.__globals__["plain_rog"] is plain.plain_rog
    bench.main(["--tasks", "lenet", "--size", "16", "--repeats", "1", "--plain-steps", "0"])
    lines = capsys.readouterr().out.splitlines()
    for name in ("plain ROG", "dlg (an iteration, a step has 20)", "idlg", "inverting_gradients", "map", "rog"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        median, least, most, _, ratio = map(float, line.split()[-5:])
        assert 0 < least <= median <= most
        assert ratio > 0
    assert not any("released code" in line for line in lines)


def test_benchmark_prints_seconds_to_equal_quality(plain: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench = importlib.import_module("bench")
    smaller = ["--tasks", "lenet", "--size", "16", "--steps", "0", "--plain-steps", "3", "--public-patients", "12"]
    bench.main(smaller)
    lines = capsys.readouterr().out.splitlines()
    for name in ("plain ROG, whole", "plain ROG, best moment", "unmixing", "map, prior", "rog"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        steps, psnr, seconds = line.removeprefix(name).split()[:3]
        assert int(steps) > 0
        assert 0 < float(psnr) < 100
        assert float(seconds) > 0
    assert any("mean public film" in line for line in lines)


def test_quality_is_that_of_the_best_step_and_counts_the_seconds_until_it_is_near(plain: ModuleType) -> None:
    cases, quality = importlib.import_module("cases"), importlib.import_module("equal_quality")
    films = torch.full((2, 3, 4, 4), 0.5)
    near = [films + error for error in (0.3, 0.1, 0.0995, 0.2)]

    class Scripted(cases.Round):
        def plain(self, *, steps: int, watch: Callable[[torch.Tensor], None]) -> object:
            for images in near[:steps]:
                watch(images)
            return plain.PlainResult(near[-1], (), (1.0, 2.0, 4.0, 8.0))

    run, whole = quality.plain_run(Scripted(cases.CASES[0], None, films), 4)
    assert (run.steps, run.seconds) == (2, 3.0)
    assert run.psnr == pytest.approx(20.04, abs=0.01)
    assert (whole.steps, whole.seconds, whole.as_good) == (4, 15.0, False)
    assert whole.psnr == pytest.approx(13.98, abs=0.01)


def test_a_ladder_ends_at_the_first_run_that_is_as_good(plain: ModuleType) -> None:
    quality = importlib.import_module("equal_quality")
    runs = [quality.Run(steps, psnr, 1.0, as_good=psnr > 15) for steps, psnr in ((1, 12.0), (2, 16.0), (3, 19.0))]
    climb = iter(runs)
    assert quality.first_as_good(climb) is runs[1]
    assert list(climb) == runs[2:]
    assert quality.first_as_good(iter([runs[0], quality.Run(2, 11.0, 1.0, as_good=False)])) is runs[0]


def test_psnr_does_not_depend_on_the_order(plain: ModuleType) -> None:
    quality = importlib.import_module("equal_quality")
    films = torch.rand(3, 1, 4, 4, generator=stream(0))
    images = (films + 0.01 * torch.randn(films.shape, generator=stream(1)))[[2, 0, 1]]
    assert quality.psnr(images, films) == pytest.approx(quality.psnr(images[[1, 2, 0]], films))
    assert quality.psnr(images, films) > 35


def test_prior_is_fitted_to_patients_who_are_not_attacked(plain: ModuleType) -> None:
    cases, quality = importlib.import_module("cases"), importlib.import_module("equal_quality")
    victims = [record.patient for record in cases.phantom(16).select(split="test")[: cases.BATCH]]
    with quality.fitted_prior(16, 12) as (path, seconds):
        require_disjoint(path, victims)
    assert seconds > 0
