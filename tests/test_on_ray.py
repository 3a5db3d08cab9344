"""An audit on Ray: the same results as in one process, also when workers are killed while they work."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from gradiograph.audit import load_spec, run
from gradiograph.core.errors import MissingExtra

AUDIT = """
name = "ray"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 60, fractions = [0.4, 0.2, 0.4] }
victims = { batches = 2, size = 1 }
task = { use = "small_cnn", width = 8 }
protocol = { use = "fedavg", local_steps = 1, learning_rate = 0.01 }
threat = { knows_labels = true }
defences = [[], [{ use = "qsgd", levels = 8 }]]
attacks = [{ use = "rog", steps = 20 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]

[utility]
rounds = 2
attack_rounds = [1, 2]
sites = 2
references = []
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """As a worker has: sums depend on the number of threads in their last digits."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUIET = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def outcome(log):
    models = {c.id: log.trainings.predictions(c.id).probabilities.tolist() for c in log.trainings.cells()}
    kept = {c.id: log.trainings.checkpoint(c.id) is not None for c in log.trainings.cells()}
    cells = {c.id: (c.place, c.num_bytes, c.flags, c.objective) for c in log.cells()}
    return models, kept, cells, [(row, row.value) for row in log.rows()]


def workers_of_this_test():
    """The processes of Ray that are at a task now, started by this process."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, IndexError):
                continue

    def is_ours(process):
        while process in parents:
            process = parents[process]
            if process == os.getpid():
                return True
        return False

    return [process for process, title in titles.items() if title.startswith("ray::_work") and is_ours(process)]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers under /proc")
@QUIET
@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ray_finds_what_one_process_finds_although_workers_are_killed(tmp_path, kills):
    (tmp_path / "audit.toml").write_text(AUDIT)
    spec = load_spec(tmp_path / "audit.toml")
    killed, over = [], threading.Event()

    def kill():
        """One worker while it attacks; of two the first while it trains."""
        while not over.is_set() and len(killed) < kills:
            attacked = len(list((tmp_path / "run" / "trainings").glob("*"))) == 2
            for process in workers_of_this_test():
                if process not in killed and (attacked or len(killed) < kills - 1):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
                    break
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        spread = run(spec, tmp_path, tmp_path / "run", engine="ray", workers=2)
    finally:
        over.set()
        killer.join()
    assert len(killed) == kills
    assert spread.header["status"] == "complete"
    assert not [cell for cell in spread.cells() if cell.failed]
    serial = run_with_key(spec, tmp_path, (tmp_path / "run" / "pseudonym.key").read_bytes())
    assert outcome(spread) == outcome(serial)
    assert (tmp_path / "run" / "rows.csv").read_bytes() == (tmp_path / "serial" / "run" / "rows.csv").read_bytes()
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    assert not any(path.stat().st_mode & 0o077 for path in (tmp_path / "run").rglob("*"))


def run_with_key(spec, tmp_path, key):
    """In this process, with the pseudonyms of the other run."""
    from gradiograph.audit import scoring

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.os, "urandom", lambda _: key)
        return run(spec, tmp_path, tmp_path / "serial" / "run")


def test_without_ray_there_is_one_clear_message(tmp_path, monkeypatch):
    (tmp_path / "audit.toml").write_text(AUDIT)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradiograph\[ray\]'"):
        run(load_spec(tmp_path / "audit.toml"), tmp_path, tmp_path / "run", engine="ray")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@QUIET
def test_a_machine_that_is_lost_loses_nothing(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    (tmp_path / "audit.toml").write_text(AUDIT)
    spec = load_spec(tmp_path / "audit.toml")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machine = cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    lost = []

    def lose(done, total, share, what):
        if not lost and len(list((tmp_path / "run" / "cells").glob("*"))) >= 2:
            cluster.remove_node(machine, allow_graceful=False)
            lost.append(what)

    try:
        spread = run(spec, tmp_path, tmp_path / "run", engine="ray", progress=lose)
    finally:
        cluster.shutdown()
    assert lost == ["2 cores"]
    serial = run_with_key(spec, tmp_path, (tmp_path / "run" / "pseudonym.key").read_bytes())
    assert outcome(spread) == outcome(serial)
