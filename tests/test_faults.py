"""What goes wrong while an audit runs: a cell that raises, a kill at any moment, a disk that is full."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from gradiograph.audit import load_spec, rescore, run
from gradiograph.core.errors import LogProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.log import Log, atomic
from gradiograph.report import Policy, Results, judge, render, render_markdown, rule

AUDIT = """
name = "faults"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 60, fractions = [0.4, 0.2, 0.4] }
victims = { batches = 2, size = 1 }
task = { use = "small_cnn", width = 8 }
protocol = { use = "fedavg", local_steps = 1, learning_rate = 0.01 }
threat = { knows_labels = true }
defences = [[], [{ use = "qsgd", levels = 8 }]]
attacks = [{ use = "rog", steps = 1 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]

[utility]
rounds = 2
attack_rounds = [1, 2]
sites = 2
references = []
"""
RUN = "import sys; from gradiograph.cli import main; sys.argv[0] = 'gradiograph'; main()"
CELLS = import_module("gradiograph.audit.cell")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The same pseudonyms in every run."""
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "audit.toml").write_text(AUDIT)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
        return run(load_spec(folder / "audit.toml"), folder, folder / "finished")


def outcome(directory):
    log = Log.open(directory)
    models = {c.id: log.trainings.predictions(c.id).probabilities.tolist() for c in log.trainings.cells()}
    checkpoints = {c.id: log.trainings.checkpoint(c.id) is not None for c in log.trainings.cells()}
    return models, checkpoints, [(row, row.value) for row in log.rows()], (directory / "rows.csv").read_bytes()


class Failing:
    """The attack, but it raises under a protection."""

    def __init__(self, attack):
        self.attack = attack

    def plant(self, task, state):
        return self.attack.plant(task, state)

    def __call__(self, observation, *rest):
        if observation.defence.stages:
            msg = "cannot read /home/patient-7/film.png"
            raise ValueError(msg)
        return self.attack(observation, *rest)


def test_a_cell_that_raises_is_written_with_its_reason_and_the_run_goes_on(folder, finished, tmp_path, monkeypatch):
    build = CELLS.build_attack
    monkeypatch.setattr(CELLS, "build_attack", lambda *settings: Failing(build(*settings)))
    spec = load_spec(folder / "audit.toml")
    log = run(spec, folder, tmp_path / "run")
    assert log.header["status"] == "complete"
    assert len(log.cells()) == log.header["cells_total"]
    failed = {(c.defence, c.control, c.round, c.batch): c.failed for c in log.cells() if c.failed}
    assert {place[:3] for place in failed} == {
        ("qsgd(levels=8)", control, number) for control in ("none", "mismatched_update") for number in (1, 2)
    }
    assert failed["qsgd(levels=8)", "none", 1, 0].startswith("ValueError in gradiograph.audit.cell, line")
    assert failed["qsgd(levels=8)", "mismatched_update", 1, 0].startswith("The attack on batch 1, which this")
    assert not [row for row in log.rows() if row.defence == "qsgd(levels=8)"]

    results = Results.read(log)
    assert results.complete
    assert "Inconclusive." in judge(results).headline
    assert "were not measured" in judge(results).headline
    (told,) = {"; ".join(ruling.failures) for ruling in rule(results, Policy(max_identification=1.0))}
    assert "2 of 2 attacks on round 1 failed and are not measured" in told
    for page in (render(log), render_markdown(log)):
        assert "8 of 20 cells failed" in page
        assert "Rog(steps=1) on small" in page
        assert "patient-7" not in page
    assert "psnr" in {row.metric for row in rescore(tmp_path / "run", {"use": "psnr"}).rows()}

    monkeypatch.setattr(CELLS, "build_attack", build)
    shutil.rmtree(tmp_path / "run" / "victims")
    again = run(spec, folder, tmp_path / "run", resume=True)
    assert not [cell for cell in again.cells() if cell.failed]
    own = [row for row in again.rows() if row.metric != "psnr"]
    assert own == list(finished.rows())


def test_a_training_that_raises_is_a_result_with_its_reason(folder, tmp_path, monkeypatch):
    trainings = import_module("gradiograph.audit.trainings")
    real = trainings.train

    def train(federation, **settings):
        if federation.defence.stages:
            raise RuntimeError
        return real(federation, **settings)

    monkeypatch.setattr(trainings, "train", train)
    log = run(load_spec(folder / "audit.toml"), folder, tmp_path / "run")
    failed = {cell.defence: cell.failed for cell in log.trainings.cells()}
    assert failed.keys() == {"none", "qsgd(levels=8)"}
    assert not failed["none"]
    assert failed["qsgd(levels=8)"].startswith("RuntimeError in gradiograph.audit.trainings, line ")
    assert log.header["status"] == "complete"
    monkeypatch.setattr(trainings, "train", real)
    again = run(load_spec(folder / "audit.toml"), folder, tmp_path / "run", resume=True)
    assert {cell.failed for cell in again.trainings.cells()} == {""}
    assert ("qsgd(levels=8)", 2) in {(cell.defence, cell.round) for cell in again.cells()}


def test_an_update_that_is_not_finite_is_no_result(folder, tmp_path):
    spec = load_spec(folder / "audit.toml", ["protocol.learning_rate=1e38", "protocol.local_steps=3"])
    log = run(replace_utility(spec), folder, tmp_path / "run")
    failed = {cell.failed for cell in log.cells() if cell.control == "none"}
    assert len(failed) == 1
    assert "not finite: there is nothing to attack. Lower the learning rate" in failed.pop()
    assert judge(Results.read(log)).headline == "Nothing was measured."
    assert "Nothing was measured." in render(log)


def replace_utility(spec):
    return spec.model_copy(update={"utility": None})


def killed_in(folder, out, operation):
    """Run in this process, which kills itself at one of its operations on the disk; 0 where it came to its end."""
    os.environ["GRADIOGRAPH_PSEUDONYM_KEY"] = "test"
    count = 0

    def counted(real):
        def call(*settings, **named):
            nonlocal count
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*settings, **named)

        return call

    for owner, name in ((os, "fsync"), (os, "open"), (Path, "rename"), (Path, "replace"), (Path, "mkdir")):
        setattr(owner, name, counted(getattr(owner, name)))
    run(load_spec(folder / "audit.toml"), folder, out, resume=out.exists())


def test_a_run_that_is_killed_again_and_again_at_any_moment_ends_with_the_same_result(folder, finished, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gradiograph.audit", __name__])
    moments, out, kills = numpy_stream(0, "kills"), tmp_path / "run", 0
    while True:
        # Short lives at first, so that the first files are hit as well.
        operation = int(moments.integers(1, 8 if kills < 3 else 120))
        process = context.Process(target=killed_in, args=(folder, out, operation))
        process.start()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 5
    assert outcome(out) == outcome(finished.directory)
    assert not list(out.rglob(".tmp-*"))


@pytest.fixture
def small_disk(tmp_path):
    """A command that runs a script with a file system of its own, of 500 kB, at `tmp_path / "disk"`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=500k none {disk}"
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*shell, mount], capture_output=True).returncode:
        pytest.skip("a file system of one's own needs user namespaces")
    return lambda script: subprocess.run([*shell, f"{mount}; {script}"], capture_output=True, text=True)


def test_a_full_disk_is_one_clear_message_and_the_run_goes_on_elsewhere(folder, finished, tmp_path, small_disk):
    out, kept, command = tmp_path / "disk" / "run", tmp_path / "kept", f'{sys.executable} -c "{RUN}"'
    found = small_disk(f"{command} run {folder / 'audit.toml'} --out {out}; code=$?; cp -r {out} {kept}; exit $code")
    assert found.returncode == 2, found.stderr
    assert "cannot be written (No space left on device). Make room" in found.stderr
    assert "Traceback" not in found.stderr
    assert str(tmp_path) not in found.stderr
    run(load_spec(folder / "audit.toml"), folder, kept, resume=True)
    assert outcome(kept) == outcome(finished.directory)


def test_a_file_that_cannot_grow_leaves_what_was_there(tmp_path):
    path = tmp_path / "rows.csv"
    atomic.write_file(path, b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(LogProblem, match=r"cannot be written \(File too large\)"):
            atomic.write_file(path, bytes(2000))
        with pytest.raises(LogProblem, match="File too large"), atomic.new_folder(tmp_path / "cell") as cell:
            atomic.write_new(cell / "images.npz", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


def test_a_run_that_was_killed_before_its_first_file_starts_anew(folder, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".tmp-audit.json.999999").write_text("{")
    spec = replace_utility(load_spec(folder / "audit.toml", ["defences=[[]]"]))
    assert run(spec, folder, out, resume=True).header["status"] == "complete"
    with pytest.raises(LogProblem, match="holds no run"):
        run(spec, folder, tmp_path / "elsewhere", resume=True)


ORPHANS = """
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from gradiograph.audit.workers import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 300)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    (tmp_path / "orphans.py").write_text(ORPHANS)
    done = subprocess.run([sys.executable, tmp_path / "orphans.py"], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert any(has_ended(int(done.stdout)) for _ in range(100)), "the worker outlives the run that started it"


def test_a_worker_that_is_killed_leaves_one_message(monkeypatch, folder, tmp_path):
    class Lost(ProcessPoolExecutor):
        def submit(self, *_):
            return super().submit(os.abort)

    monkeypatch.setattr(import_module("gradiograph.audit.workers"), "ProcessPoolExecutor", Lost)
    with pytest.raises(LogProblem, match="continue with --resume"):
        run(load_spec(folder / "audit.toml"), folder, tmp_path / "run", workers=2)


def has_ended(process):
    time.sleep(0.1)
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True
