"""An audit that trains on Flower: on its simulation, and on a SuperLink with three SuperNodes over TLS."""

import json
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest

from flower_loopback import LoopbackGrid, context
from flower_network import CONNECTION, network, program
from gradiograph.audit import load_spec, plan, run
from gradiograph.audit.trainings import site_records
from gradiograph.core.errors import BadSetting, MissingExtra, TrainingFailed
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
    return cell, state_of(log, cell.id)


def state_of(log, training, part="state/"):
    with np.load(log.directory / "checkpoints" / f"{training}.npz") as stored:
        return {name.removeprefix(part): stored[name] for name in stored.files if name.startswith(part)}


def agree(found, expected):
    return all(np.abs(found[name].astype(float) - expected[name]).max() < 1e-5 for name in expected)


def test_only_flower_has_settings(file):
    with pytest.raises(BadSetting, match="engine 'in_process' has no timeout"):
        load_spec(file, ["utility.engine={ use = 'in_process', timeout = 3 }"])
    with pytest.raises(BadSetting, match=r"no key .utility\.engine\.time_out.\. Did you mean .timeout"):
        load_spec(file, ["utility.engine={ use = 'flower', time_out = 3 }"])
    assert load_spec(file, ["utility.engine='flower'"]).utility.engine.timeout == 3600


def test_without_flower_the_plan_is_refused(file, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "flwr" or "gradiograph.flower" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(MissingExtra, match="Flower is not installed"):
        plan(load_spec(file, ["utility.engine='flower'"]), file.parent)
    plan(load_spec(file), file.parent)


def over_loopback(place_of=None):
    """In place of Flower's processes: the same server and client apps, and messages within this one."""

    def run_app(components, settings, *, nodes, superlink, log, waiting):
        server, client = (import_module(components[key].partition(":")[0]) for key in ("serverapp", "clientapp"))
        assert components == {"serverapp": f"{server.__name__}:server", "clientapp": f"{client.__name__}:client"}
        grid = LoopbackGrid(client.client, nodes, **settings)
        grid.node_config = place_of or {}
        server.server(grid, context(None, 1, **settings))
        waiting()

    return run_app


@pytest.fixture
def loopback(monkeypatch):
    app, launcher = (import_module(f"gradiograph.audit.flower_{name}") for name in ("app", "run"))
    monkeypatch.setattr(launcher, "run_app", over_loopback())
    yield launcher
    app._opened.cache_clear()
    app._federation.cache_clear()


def test_an_audit_on_flower_is_that_in_process(file, tmp_path, loopback):
    sets = ["defences=[[], [{ use = 'gaussian_noise', std = 1e18 }]]", "utility.rounds=2"]
    here = run(load_spec(file, sets), tmp_path, tmp_path / "here")
    there = run(load_spec(file, [*sets, "utility.engine='flower'"]), tmp_path, tmp_path / "there")
    for one, other in zip(here.trainings.cells(), there.trainings.cells(), strict=True):
        assert (one.id, one.arm, one.failed) == (other.id, other.arm, other.failed)
        assert [record.scores for record in one.history] == [record.scores for record in other.history]
        found, expected = (state_of(log, one.id) for log in (there, here))
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert "0 of 3 clients sent a usable update" in next(cell.failed for cell in there.trainings.cells() if cell.failed)


def test_what_flower_leaves_undone_is_an_error_and_goes_on(file, tmp_path, loopback, monkeypatch):
    spec = load_spec(file, ["utility.engine='flower'"])
    monkeypatch.setattr(loopback, "run_app", lambda *args, **settings: None)
    with pytest.raises(TrainingFailed, match=r"1 of 1 trainings not done; flower\.log"):
        run(spec, tmp_path, tmp_path / "run")
    monkeypatch.setattr(loopback, "run_app", over_loopback())
    assert run(spec, tmp_path, tmp_path / "run", resume=True).header["status"] == "complete"
    monkeypatch.setattr(loopback, "run_app", None)  # nothing is left to train
    run(spec, tmp_path, tmp_path / "run", resume=True)


def test_a_node_with_its_own_file_and_films(file, tmp_path, loopback, monkeypatch):
    """Two sites train on what the first machine's file gives them, the third on all films of a file of its own."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own = elsewhere / "audit.toml"
    own.write_text(AUDIT.replace("patients = 120", "patients = 60"))
    monkeypatch.setattr(loopback, "run_app", over_loopback({1002: {"audit": str(own), "own-films": True}}))
    there = run(load_spec(file, ["utility.engine='flower'"]), tmp_path, tmp_path / "there")
    here = run(load_spec(file), tmp_path, tmp_path / "here")
    (cell, found), (_, expected) = weights(there), weights(here)
    assert [bool(outcome.refused) for outcome in cell.history[0].outcomes] == [False, False, False]
    assert not agree(found, expected)
    asked = next(message for message in LoopbackGrid.last.received if message.metadata.message_type == "train")
    films = {
        node: client_of(asked, node, there, tmp_path, {} if node < 1002 else {"audit": str(own), "own-films": True})
        for node in (1000, 1001, 1002)
    }
    made = plan(load_spec(own), elsewhere)
    assert films[1002] == sum(map(len, site_records(made)))


def client_of(asked, node, log, folder, config):
    """How many films a node trains on, by its reply."""
    app = import_module("gradiograph.audit.flower_app").client
    where = context(node - 1000, run=str(log.directory), folder=str(folder))
    where.node_config.update(config)
    return app(asked, where).content["about"]["num-examples"]


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
    deadline = time.monotonic() + 400
    while rounds_done(run_folder) < number:
        assert process.poll() is None, "the audit ended too early"
        assert time.monotonic() < deadline, "no round in time"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hospital_that_dies_in_a_round_is_left_out_and_rejoins(file, tmp_path):
    rounds, timeout = 5, 45
    own = ["--set", f"utility.rounds={rounds}", "--set", "utility.min_clients=2", "--set", "utility.attack_rounds=[2]"]
    engine = f"{{ use = 'flower', superlink = '{CONNECTION}', timeout = {timeout} }}"
    with network(tmp_path, nodes=3) as (running, nodes):
        command = [program("gradiograph"), "run", str(file), "--out", str(tmp_path / "run"), *own]
        audit = subprocess.Popen([*command, "--set", f"utility.engine={engine}"], env=running.environment)
        wait_for_round(tmp_path / "run", 1, audit)
        time.sleep(1)  # the second round has begun: its messages are out
        running.kill(nodes[2])
        running.start_node(2)
        assert audit.wait(timeout=1200) == 0
    (cell,) = Log.open(tmp_path / "run").trainings.cells()
    assert not cell.failed
    took_part = [[not outcome.refused for outcome in record.outcomes] for record in cell.history]
    assert took_part[0] == [True, True, True]
    assert took_part[1] == [True, True, False]
    # Closed by the timeout, or before it where Flower missed the node's heartbeats earlier.
    assert cell.history[1].seconds < timeout + 15
    assert took_part[-1] == [True, True, True]
    after_one_round = state_of(Log.open(tmp_path / "run"), cell.id, "kept/2/")  # before the second
    assert agree(after_one_round, weights(run(load_spec(file), tmp_path, tmp_path / "here"))[1])
