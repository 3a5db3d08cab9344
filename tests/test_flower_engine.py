"""An audit that trains on Flower: on its simulation, and on a SuperLink with three SuperNodes over TLS."""

import json
import subprocess
import time
from importlib import import_module

import numpy as np
import pytest

from flower_network import CONNECTION, network, program
from gradiograph.audit import load_spec, plan, run
from gradiograph.core.errors import BadSetting, TrainingFailed
from gradiograph.log import Log

AUDIT = """
name = "tiny"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 120, fractions = [0.4, 0.2, 0.4] }
victims = { batches = 2, size = 2 }
task = { use = "small_cnn", width = 8 }
protocol = { use = "fedavg", local_epochs = 1, batch_size = 2, learning_rate = 0.01 }
threat = { knows_labels = true }
defences = [[]]
attacks = [{ use = "dlg", steps = 1 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]
utility = { rounds = 1, sites = 3, references = [] }
"""


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT)
    return path


def weights(log):
    (cell,) = log.trainings.cells()
    with np.load(log.directory / "checkpoints" / f"{cell.id}.npz") as stored:
        return cell, {name: stored[name] for name in stored.files if name.startswith("state/")}


def agree(found, expected):
    return all(np.abs(found[name].astype(float) - expected[name]).max() < 1e-5 for name in expected)


def test_only_flower_has_settings(file):
    with pytest.raises(BadSetting, match="engine 'in_process' has no timeout"):
        load_spec(file, ["utility.engine={ use = 'in_process', timeout = 3 }"])
    with pytest.raises(BadSetting, match=r"no key .utility\.engine\.time_out.\. Did you mean .timeout"):
        load_spec(file, ["utility.engine={ use = 'flower', time_out = 3 }"])
    assert load_spec(file, ["utility.engine='flower'"]).utility.engine.timeout == 3600


def test_without_flower_the_plan_is_refused(file, monkeypatch):
    monkeypatch.setitem(import_module("sys").modules, "gradiograph.flower", None)
    with pytest.raises(ModuleNotFoundError):
        plan(load_spec(file, ["utility.engine='flower'"]), file.parent)
    plan(load_spec(file), file.parent)


@pytest.mark.slow
def test_the_simulation_gives_the_weights_of_the_engine(file, tmp_path):
    here = run(load_spec(file), tmp_path, tmp_path / "here")
    there = run(load_spec(file, ["utility.engine='flower'"]), tmp_path, tmp_path / "there")
    (one, expected), (other, found) = weights(here), weights(there)
    assert agree(found, expected)
    assert one.id == other.id
    assert [o.client for o in other.history[0].outcomes] == [0, 1, 2]
    assert {row.metric for row in there.rows()} == {row.metric for row in here.rows()}
    assert (tmp_path / "there" / "flower.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_superlink_that_is_not_there_is_one_clear_error(file, tmp_path, monkeypatch):
    home = tmp_path / "flower"
    home.mkdir()
    (home / "config.toml").write_text("[superlink]\n")
    monkeypatch.setenv("FLWR_HOME", str(home))
    spec = load_spec(file, ["utility.engine={ use = 'flower', superlink = 'nowhere' }"])
    with pytest.raises(TrainingFailed, match="Check the connection 'nowhere'"):
        run(spec, tmp_path, tmp_path / "run")
    assert Log.open(tmp_path / "run").header["status"] == "failed"


def rounds_done(run_folder):
    for path in (run_folder / "checkpoints").glob("[!.]*.npz"):
        with np.load(path) as stored:
            return len(json.loads(str(stored["about"]))["history"])
    return 0


def wait_for_round(run_folder, number, process):
    deadline = time.monotonic() + 240
    while rounds_done(run_folder) < number:
        assert process.poll() is None, "the audit ended too early"
        assert time.monotonic() < deadline, "no round in time"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_hospital_that_dies_in_a_round_is_left_out_and_rejoins(file, tmp_path):
    rounds, timeout = 5, 45
    own = ["--set", f"utility.rounds={rounds}", "--set", "utility.min_clients=2"]
    engine = f"{{ use = 'flower', superlink = '{CONNECTION}', timeout = {timeout} }}"
    with network(tmp_path, nodes=3) as (running, nodes):
        command = [program("gradiograph"), "run", str(file), "--out", str(tmp_path / "run"), *own]
        audit = subprocess.Popen([*command, "--set", f"utility.engine={engine}"], env=running.environment)
        wait_for_round(tmp_path / "run", 1, audit)
        time.sleep(1)  # the second round has begun: its messages are out
        running.kill(nodes[2])
        running.start_node(2)
        assert audit.wait(timeout=500) == 0
    (cell,) = Log.open(tmp_path / "run").trainings.cells()
    assert not cell.failed
    took_part = [[not outcome.refused for outcome in record.outcomes] for record in cell.history]
    assert took_part[0] == [True, True, True]
    assert took_part[1] == [True, True, False]
    assert timeout <= cell.history[1].seconds < timeout + 30  # closed by the timeout
    assert took_part[-1] == [True, True, True]
    first = run(load_spec(file), tmp_path, tmp_path / "here")
    (one,) = first.trainings.cells()
    assert one.history[0].scores == pytest.approx(cell.history[0].scores, abs=1e-5)
