"""A hospital audits its own Flower app with two lines: capture, check on planted films, attack."""

import importlib
import sys

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from PIL import Image
from typer.testing import CliRunner

from flower_loopback import LoopbackGrid, reply
from gradiograph.cli import app as command_line
from gradiograph.core.random import global_stream
from gradiograph.core.registry import build
from gradiograph.defences import UniformQuantisation
from gradiograph.flower import Decoding, Recording, protect
from gradiograph.log import Log
from gradiograph.report import Results, judge
from gradiograph.testing import load_rooms

load_rooms()
MODEL = """
from torch import nn


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
"""
AUDIT = """
name = "hospital"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 60, fractions = [0.3, 0.2, 0.5] }
victims = { batches = 2, size = 2 }
task = { use = "hospital_model:network" }
protocol = { use = "fedavg", local_steps = 3, learning_rate = LEARNING_RATE }
threat = { knows_labels = true }
defences = [[]]
attacks = [{ use = "rog", steps = 2 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]

[captured]
num_examples = 2
defence = DEFENCE
originals = { use = "folder", path = "films-1", image_size = 16, fractions = [0, 0, 1] }
planted = { originals = { use = "folder", path = "films-0", image_size = 16, fractions = [0, 0, 1] }, PLANTED }
"""


def hospital_app(network, sites, *mods):
    """Somebody's app: its own loop, torch's optimiser, nothing of ours but the mods."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message, context):
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        images, labels = sites[context.node_config["partition-id"]]
        optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
        for _ in range(3):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
        return reply(message, ArrayRecord(model.state_dict()), len(images))

    return app


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """The app's network, and two films at each of two nodes, on disk as well."""
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
    (tmp_path / "hospital_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hospital_model", raising=False)
    data = build("data", {"use": "phantom", "image_size": 16, "patients": 30})
    sites = {}
    for node in range(2):
        chosen = [data.select(label=label)[node] for label in range(2)]
        pixels = (data.read([record.index for record in chosen]) * 255).round().astype(np.uint8)
        for place, record in enumerate(chosen):
            folder = tmp_path / f"films-{node}" / data.classes[record.label]
            folder.mkdir(parents=True)
            Image.fromarray(pixels[place, 0]).save(folder / f"person{place}_bacteria_{place}.png")
        sites[node] = torch.from_numpy(pixels.astype(np.float32) / 255), torch.tensor([0, 1])
    return importlib.import_module("hospital_model").network, sites


def run_app(app, strategy, network):
    grid = LoopbackGrid(app, 2)
    messages = strategy.configure_train(1, ArrayRecord(network().state_dict()), ConfigRecord(), grid)
    strategy.aggregate_train(1, grid.send_and_receive(messages))


def audit(tmp_path, rate, defence="[]"):
    captured = [f"captured/round-0001/client-100{node}" for node in range(2)]
    planted = f'before = "{captured[0]}/before.pt", after = "{captured[0]}/after.pt"'
    text = AUDIT.replace("LEARNING_RATE", str(rate)).replace("PLANTED", planted).replace("DEFENCE", defence)
    (tmp_path / "audit.toml").write_text(text)
    files = [str(tmp_path / captured[1] / name) for name in ("before.pt", "after.pt")]
    out = tmp_path / f"run-{rate}"
    done = CliRunner().invoke(
        command_line, ["run", str(tmp_path / "audit.toml"), "--out", str(out), "--update", *files]
    )
    assert done.exit_code == 0, done.output
    return Log.open(out)


@pytest.mark.parametrize("protected", [False, True])
def test_a_hospital_audits_its_own_app(hospital, tmp_path, protected):
    network, sites = hospital
    mods = [protect(UniformQuantisation(bits=8), seed=1)] if protected else []
    strategy = Recording(FedAvg(), tmp_path / "captured")  # the one line on the server
    app = hospital_app(network, sites, *mods)
    run_app(app, Decoding(strategy) if protected else strategy, network)
    defence = '[{ use = "uniform_quantisation", bits = 8 }]' if protected else "[]"
    log = audit(tmp_path, 0.02, defence)
    assert log.header["replayed"]["agrees"], log.header["replayed"]
    assert any(cell.attack for cell in log.cells())


@pytest.mark.parametrize("seed", [0, 31])  # 31: the update's length falls short of proportional to the rate
def test_an_app_that_is_not_what_the_file_says_is_told_apart(hospital, tmp_path, seed):
    network, sites = hospital
    with global_stream(seed, "weights"):
        run_app(hospital_app(network, sites), Recording(FedAvg(), tmp_path / "captured"), network)
    log = audit(tmp_path, 0.01)
    assert (
        "learning_rate differs: the captured update is that of learning_rate = 0.02"
        in log.header["replayed"]["differs"]
    )
    assert judge(Results.read(log)).headline == "Inconclusive."
