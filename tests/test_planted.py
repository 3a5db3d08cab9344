"""A foreign app is first checked on planted films: where our replay differs, the verdict is inconclusive, with why."""

import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from gradiograph.audit import parse_spec, run_captured
from gradiograph.audit.client import CapturedRound
from gradiograph.audit.planted import replay_planted
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch, Update
from gradiograph.defences import QSGD, Clip, GaussianNoise, SignSGD, TopK
from gradiograph.protocols import FedAvg, FedProx
from gradiograph.report import Results, judge, render, render_markdown
from test_audit import captured_files
from test_federation import make_task

TASK, NORMALISED = make_task(), make_task(norm=True)
OWN = FedAvg(local_steps=2, learning_rate=0.01)
BATCH = Batch(torch.rand(4, 1, 8, 8, generator=stream(2, "films")), torch.tensor([0, 1, 1, 0]))


def sent(task=TASK, protocol=OWN, batch=BATCH, defence=None):
    """What the app, which does this, sends; by way of two state dicts."""
    state = task.state()
    clean = protocol.local_update(task, state, batch, stream(3, "app")).tensors
    tensors = (defence or Chain()).on_update(clean, stream(4, "noise"))
    names = [name for name, _ in task.model.named_parameters()]
    after = {name: state[name] + tensors[name] if name in tensors else state[name] for name in names}
    rounded = {name: after[name] - state[name] for name in names}
    update = Update(tensors=rounded, buffers={}, kind="delta", num_examples=4, num_bytes=0)
    return CapturedRound(state, update)


def check(seen, protocol=OWN, defence=None, task=TASK, **settings):
    return replay_planted(task, protocol, defence or Chain(), seen, BATCH, **settings)


@pytest.mark.parametrize(
    "defence",
    [
        None,
        Chain(stages=(Clip(norm=1e-3),)),
        Chain(stages=(TopK(sparsity=0.9),)),
        Chain(stages=(SignSGD(scale="mean_abs"),)),
        Chain(stages=(QSGD(levels=16),)),
        Chain(stages=(GaussianNoise(std=1e-3),)),
    ],
)
def test_an_app_that_does_what_the_audit_says_agrees(defence):
    found = check(sent(defence=defence), defence=defence)
    assert found.agrees, found
    assert not found.differs


NAMED = {
    "learning_rate differs.* = 0.03, the audit file says 0.01": {"protocol": replace(OWN, learning_rate=0.03)},
    "local_steps differs.* = 5, the audit file says 2": {"protocol": replace(OWN, local_steps=5)},
    "momentum differs.* = 0.9, the": {"protocol": replace(OWN, momentum=0.9)},
    "weight_decay differs.* = 0.01, the": {"protocol": replace(OWN, weight_decay=1e-2)},
    "optimiser differs.* = adamw": {"protocol": replace(OWN, optimiser="adamw")},
    "scaling of the images differs.*x - 0.5": {"batch": Batch((BATCH.images - 0.5) / 0.5, BATCH.targets)},
    "turned left to right": {"batch": Batch(BATCH.images.flip(-1), BATCH.targets)},
    "order of the classes differs": {"batch": Batch(BATCH.images, 1 - BATCH.targets)},
    "The layers that train differ: the app leaves '0.weight'": {"task": replace(TASK, trainable=TASK.trainable[-2:])},
    "it quantises": {"defence": Chain(stages=(QSGD(levels=2, norm="max"),))},
    "of the values as zero: it sparsifies": {"defence": Chain(stages=(TopK(sparsity=0.9),))},
}


@pytest.mark.parametrize("told", NAMED)
def test_the_part_that_differs_is_named(told):
    found = check(sent(**NAMED[told]))
    assert not found.agrees
    assert found.error > 0.01
    assert re.search(told, found.differs), found.differs


def test_the_mode_of_normalisation_is_named():
    found = check(sent(task=replace(NORMALISED, model=deepcopy(NORMALISED.model), mode="eval")), task=NORMALISED)
    assert "mode differs: the app's normalisation layers are in mode eval" in found.differs


def test_a_longer_round_of_the_proximal_protocol_is_named():
    own = FedProx(local_steps=4, learning_rate=0.05, mu=0.01)
    found = check(sent(protocol=replace(own, mu=1.0)), protocol=own)
    assert "mu differs" in found.differs


def test_a_protection_that_is_not_there_is_named():
    found = check(sent(), defence=Chain(stages=(Clip(norm=1e-4),)))
    assert "captured.defence without Clip" in found.differs
    noisy = check(sent(), defence=Chain(stages=(GaussianNoise(std=1e-2),)))
    assert "captured.defence without GaussianNoise" in noisy.differs


def test_what_nothing_explains_says_so():
    seen = sent(batch=Batch(torch.rand(4, 1, 8, 8, generator=stream(9, "others")), BATCH.targets))
    found = check(seen)
    assert "No single change" in found.differs


def test_layers_that_only_the_app_trains_are_named():
    found = replay_planted(replace(TASK, trainable=TASK.trainable[-2:]), OWN, Chain(), sent(), BATCH, TASK.trainable)
    assert "the app changes '0.bias', the audit's task does not" in found.differs


def test_what_cannot_be_replayed_is_refused():
    with pytest.raises(BadSetting, match="Plant at most 2 films"):
        check(sent(), protocol=FedAvg(local_epochs=1, learning_rate=0.01, batch_size=2))
    with pytest.raises(BadSetting, match="augments at random"):
        check(sent(), protocol=replace(OWN, augmentation=("flip",)))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")


def with_planted(spec, **protocol):
    """The same audit, with the captured round itself as the planted one, and a protocol that may be another."""
    content = spec.model_dump(mode="json", exclude_unset=True)
    content["captured"]["planted"] = {
        "originals": content["captured"]["originals"],
        "before": "before.pt",
        "after": "after.pt",
    }
    content["protocol"] = {**spec.protocol[0], **protocol}
    return parse_spec(content)


def test_an_app_that_agrees_is_attacked(tmp_path):
    spec, before, after = captured_files(tmp_path)
    log = run_captured(with_planted(spec), tmp_path, tmp_path / "run", before, after)
    assert log.header["replayed"]["agrees"]
    assert any(cell.attack for cell in log.cells())
    assert "On planted films our replay gives what the app sent" in judge(Results.read(log)).meaning


def test_an_app_that_differs_is_inconclusive_and_not_attacked(tmp_path):
    spec, before, after = captured_files(tmp_path)
    log = run_captured(with_planted(spec, learning_rate=2e-3), tmp_path, tmp_path / "run", before, after)
    judgement = judge(Results.read(log))
    assert judgement.headline == "Inconclusive."
    assert "learning_rate differs: the captured update is that of learning_rate = 0.001" in judgement.meaning
    assert not any(cell.attack for cell in log.cells())
    assert log.header["status"] == "complete"
    for page in (render(log), render_markdown(log)):
        assert "learning_rate differs" in page


def test_an_app_that_was_not_checked_says_so(tmp_path):
    spec, before, after = captured_files(tmp_path, "attacks=[{ use = 'rog', steps = 2 }]", "defended={}")
    log = run_captured(spec, tmp_path, tmp_path / "run", before, after)
    assert "was not checked" in judge(Results.read(log)).meaning
