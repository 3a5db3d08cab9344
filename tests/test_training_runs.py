"""An audit that trains: the log it leaves, later rounds under attack, and what happens when it is killed."""

import csv
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gradiograph.audit import load_spec, plan, rescore, run
from gradiograph.audit.cell import _observation
from gradiograph.audit.trainings import federation, judged_records, site_records
from gradiograph.cli import app
from gradiograph.core.errors import BadInput, BadSetting
from gradiograph.federation import drawn, predict, train, unpack
from gradiograph.log import Log
from gradiograph.report import render, render_markdown, write_tables
from gradiograph.testing import check_custody

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
defences = [[], [{ use = "gaussian_noise", std = 1e18 }]]
attacks = [{ use = "dlg", steps = 1 }]
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "mse"]

[utility]
rounds = 3
attack_rounds = [1, 3]
sites = 2
partition = { dirichlet = 0.5 }
server = { use = "sgd", momentum = 0.5 }
"""


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The same pseudonyms in every run."""
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    file = folder / "audit.toml"
    file.write_text(AUDIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
        return run(load_spec(file), folder, folder / "run")


def spec_with(tmp_path, *overrides):
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT)
    return load_spec(file, overrides)


def arms(log):
    return {(cell.defence, cell.arm, cell.seed): cell for cell in log.trainings.cells()}


def test_every_protection_is_trained_beside_its_references(finished):
    found = arms(finished)
    assert {(d, s) for d, arm, s in found if arm == "federated"} == {("none", 1), ("gaussian_noise(std=1e+18)", 1)}
    assert {(arm, s) for d, arm, s in found if d == "none"} == {
        (arm, s) for arm in ("federated", "pooled", "site 0", "site 1") for s in (1,)
    }
    record = found["none", "federated", 1].history[-1]
    assert record.number == 3
    assert set(record.scores) == {"pooled", "site 0", "site 1"}
    assert 0 <= record.scores["pooled"] <= 1
    assert record.bytes_up > 0
    assert finished.header["utility"]["films_per_site"][0].keys() == {"NORMAL", "PNEUMONIA"}


def test_the_predictions_are_of_the_test_films_without_the_attacked_patients(finished, tmp_path):
    made = plan(spec_with(tmp_path), tmp_path)
    predictions = finished.trainings.predictions(arms(finished)["none", "federated", 1].id)
    attacked = {record.patient for batch in made.films.victims for record in batch.records}
    expected = [r for r in made.sites.records if r.split == "test" and r.patient not in attacked]
    assert len(predictions) == len(expected) == len(judged_records(made))
    assert predictions.labels.tolist() == [record.label for record in expected]
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)
    assert not {*predictions.patients} & {record.patient for record in expected}
    assert len(set(predictions.patients)) == len({record.patient for record in expected})
    assert {*predictions.sites} == {0, 1}


def test_no_attacked_patient_trains_whatever_the_split(tmp_path):
    made = plan(spec_with(tmp_path, "victims.split='train'", "public.split='val'"), tmp_path)
    attacked = {record.patient for batch in made.films.victims for record in batch.records}
    whole = [r for r in made.sites.records if r.split == "train"]
    trained = [record for records in site_records(made) for record in records]
    assert len(whole) == len(trained) + 4
    assert not attacked & {record.patient for record in trained}
    assert sum(site.num_examples for site in federation(made, made.trainings[0]).sites) == len(trained)


def test_the_log_is_what_the_engine_trains(finished, tmp_path):
    made = plan(spec_with(tmp_path), tmp_path)
    planned = next(p for p in made.trainings if p.id == arms(finished)["none", "federated", 1].id)
    again = train(federation(made, planned))
    stored = unpack(finished.trainings.checkpoint(planned.id), federation(made, planned))
    assert all(torch.equal(again.state[name], tensor) for name, tensor in stored.state.items())
    assert set(stored.kept) == {3}


def test_a_training_that_overflows_is_recorded_and_its_later_rounds_are_not_attacked(finished):
    failed = arms(finished)["gaussian_noise(std=1e+18)", "federated", 1]
    assert "Round" in failed.failed
    assert "finite" in failed.failed
    attacked = {(cell.defence, cell.round) for cell in finished.cells() if cell.control == "none"}
    assert ("none", 3) in attacked
    assert ("gaussian_noise(std=1e+18)", 1) in attacked
    assert ("gaussian_noise(std=1e+18)", 3) not in attacked
    assert finished.header["status"] == "complete"
    assert finished.header["cells_total"] == len(finished.cells())


def test_a_later_round_is_attacked_from_the_trained_state_and_beside_its_control(finished, tmp_path):
    made = plan(spec_with(tmp_path), tmp_path)
    first, later = (
        next(c for c in made.cells if (c.round, c.control, c.seed, c.batch, c.defence) == (n, "none", 1, 0, ()))
        for n in (1, 3)
    )
    early, late = (_observation(made, finished, cell) for cell in (first, later))
    planned = next(p for p in made.trainings if p.id == arms(finished)["none", "federated", 1].id)
    two = train(replace(federation(made, planned), rounds=replace(federation(made, planned).rounds, rounds=2, keep=())))
    for name, tensor in late.rounds[0][0].items():
        assert torch.equal(tensor, two.state[name])
    assert not torch.equal(early.rounds[0][0]["0.weight"], late.rounds[0][0]["0.weight"])
    check_custody(late, torch.from_numpy(made.films.victims[0].read()))
    rows = {(row.round, row.control) for row in finished.rows() if row.attack}
    assert rows == {(n, control) for n in (1, 3) for control in ("none", "mismatched_update")}


def test_what_holds_weights_is_the_owners_alone(finished):
    paths = [*(finished.directory / "checkpoints").iterdir(), *(finished.directory / "trainings").glob("*/*")]
    assert len(paths) > 10
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    for folder in ("checkpoints", "trainings"):
        assert stat.S_IMODE((finished.directory / folder).stat().st_mode) == 0o700


def outcome(directory):
    log = Log.open(directory)
    models = {
        cell.id: (cell.failed, [record.outcomes for record in cell.history],
                  None if cell.failed else log.trainings.predictions(cell.id).probabilities.tolist())
        for cell in log.trainings.cells()
    }  # fmt: skip
    return models, [(row, row.value) for row in log.rows()]


@pytest.mark.parametrize("after", ["checkpoint", pytest.param("training", marks=pytest.mark.slow)])
def test_a_killed_run_continues_to_the_same_result(finished, tmp_path, after):
    (tmp_path / "audit.toml").write_text(AUDIT)
    command = [sys.executable, "-c", "from gradiograph.cli import main; main()", "run", "audit.toml", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted = {"checkpoint": "checkpoints/*.npz", "training": "trainings/*/training.json"}[after]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list((tmp_path / "run").glob(wanted))) < 2 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert json.loads((tmp_path / "run" / "audit.json").read_text())["status"] == "running"
    run(load_spec(tmp_path / "audit.toml"), tmp_path, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(finished.directory)


def test_a_metric_that_is_added_later_keeps_the_rounds_apart(finished, tmp_path):
    shutil.copytree(finished.directory, tmp_path / "run")
    rows = rescore(tmp_path / "run", {"use": "psnr"}).rows()
    found = {(row.round, row.control): row.value for row in rows if row.metric == "psnr" and row.attack}
    assert set(found) == {(n, control) for n in (1, 3) for control in ("none", "mismatched_update")}


def test_the_command_trains_writes_the_tables_and_ends_with_1_where_the_policy_is_not_held(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    overrides = ["utility.rounds=1", "utility.attack_rounds=[1]", "utility.references=[]",
                 "policy={ max_identification = 0.5 }", 'defences=[[], [{ use = "qsgd", levels = 8 }]]']  # fmt: skip
    options = [part for override in overrides for part in ("--set", override)]
    command = ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run"), *options]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 1
    assert "Policy: qsgd(levels=8) fails:" in found.stdout
    for name in ("report.html", "frontier.csv", "utility.csv"):
        assert (tmp_path / "run" / name).is_file()
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "audit.toml"), *options])
    assert "2 trainings of 1 rounds" in checked.stdout


@pytest.mark.slow
def test_workers_give_the_same_as_one_process(finished, tmp_path):
    run(spec_with(tmp_path), tmp_path, tmp_path / "run", workers=2)
    assert outcome(tmp_path / "run") == outcome(finished.directory)


def test_a_full_disk_stops_the_run_with_what_was_written_whole(tmp_path, monkeypatch):
    from gradiograph.log import trainings

    real, written = trainings.write_file, []

    def full(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(trainings, "write_file", full)
    with pytest.raises(OSError, match="No space"):
        run(spec_with(tmp_path), tmp_path, tmp_path / "run")
    log = Log.open(tmp_path / "run")
    assert (log.header["status"], log.header["error"]) == ("failed", "OSError")
    made = plan(spec_with(tmp_path), tmp_path)
    first = made.trainings[0]
    assert not log.trainings.has(first.id)
    # The third round's checkpoint found no room; the second round's is whole.
    assert unpack(log.trainings.checkpoint(first.id), federation(made, first)).round == 2


def test_clients_of_each_round_are_drawn_from_the_sites(tmp_path):
    spec = spec_with(tmp_path, "utility.sites=4", "utility.clients_per_round=0.5")
    made = plan(spec, tmp_path)
    assert len(drawn(federation(made, made.trainings[0]), 1)) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("utility.round=3", "no key 'utility.round'. Did you mean 'rounds'?"),
        ("utility.partition.dirichlt=1", "no key 'utility.partition.dirichlt'. Did you mean 'dirichlet'?"),
        ("utility.partition='idd'", "Did you mean 'iid'?"),
        ("utility.score='aurc'", "Did you mean 'auroc'?"),
        ("utility.attack_rounds=[4]", "attack_rounds has 4, but rounds = 3"),
        ("utility.attack_rounds=[1, 1]", "has a round twice"),
        ("utility.test='train'", "is also what trains"),
        ("utility.clients_per_round=3", "3 clients a round of 2 sites"),
        ("utility.server='fedadm'", "Did you mean 'fedadam'?"),
        ("utility.server={ use = 'fedadam', lr = 1 }", "server 'fedadam' has no setting 'lr'"),
        ("utility.sites=1000", "cannot be shared among 1000 clients"),
        ("policy.max_identificaton=0.1", "Did you mean 'max_identification'?"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(tmp_path, override, message):
    with pytest.raises(BadInput) as refused:
        plan(spec_with(tmp_path, override), tmp_path)
    assert message in str(refused.value)


def test_a_policy_needs_what_it_bounds(tmp_path):
    with pytest.raises(BadSetting, match="needs the metric identification"):
        spec_with(tmp_path, "policy={ max_identification = 0.1 }", "metrics=['mse']")
    content = AUDIT[: AUDIT.index("[utility]")] + "policy = { max_identification = 0.1, max_loss = 0.1 }\n"
    (tmp_path / "audit.toml").write_text(content)
    with pytest.raises(BadSetting, match="needs a table utility"):
        load_spec(tmp_path / "audit.toml")


FOREIGN = "utility.foreign={ use = 'phantom', image_size = 16, patients = 40, seed = 9, split = 'test' }"


def test_every_model_is_judged_at_a_site_that_trains_with_nobody(tmp_path):
    overrides = ("utility.rounds=1", "utility.attack_rounds=[1]", "defences=[[]]", "utility.references=['pooled']")
    log = run(spec_with(tmp_path, *overrides, FOREIGN), tmp_path, tmp_path / "run")
    made = plan(spec_with(tmp_path, *overrides, FOREIGN), tmp_path)
    films = made.foreign
    for cell in log.trainings.cells():
        planned = next(p for p in made.trainings if p.id == cell.id)
        stored = unpack(log.trainings.checkpoint(cell.id), federation(made, planned))
        task = made.task(planned.task, 1)
        told = log.trainings.foreign(cell.id)
        expected = predict(task, stored.state, [torch.from_numpy(films.read())])
        np.testing.assert_allclose(told.probabilities, expected.numpy(), rtol=1e-5)
        assert told.labels.tolist() == films.labels.tolist()
    write_tables(log.directory)
    rows = csv.DictReader((log.directory / "utility.csv").read_text().splitlines())
    found = {(row["arm"], row["measure"]): row["value"] for row in rows if row["site"] == "foreign"}
    assert {arm for arm, _ in found} == {"federated", "pooled"}
    assert 0 <= float(found["federated", "auroc"]) <= 1
    assert "The foreign site trained with nobody: " in render(log)
    assert "AUROC at the foreign site" in render_markdown(log)


def test_the_classes_of_a_foreign_site_are_named_one_by_one(tmp_path, monkeypatch):
    """Sorted by name, 'abnormal' comes before 'normal': by place the two would be exchanged."""
    from gradiograph.core import registry

    build, theirs = registry.build, ("abnormal", "normal")

    def renamed(kind, config, *context):
        made = build(kind, config, *context)
        if kind == "data" and config.get("seed") == 9:
            records = tuple(replace(record, label=1 - record.label) for record in made.records)
            return replace(made, classes=theirs, records=records)
        return made

    monkeypatch.setattr(registry, "build", renamed)
    own = plan(spec_with(tmp_path), tmp_path).films.dataset.classes
    with pytest.raises(BadInput, match=f"class 'abnormal' stands for none of {own[0]}"):
        plan(spec_with(tmp_path, FOREIGN), tmp_path)
    mapping = f", classes = {{ normal = '{own[0]}', abnormal = '{own[1]}' }} }}"
    made = plan(spec_with(tmp_path, FOREIGN.replace(" }", mapping)), tmp_path)
    plain = build("data", {"use": "phantom", "image_size": 16, "patients": 40, "seed": 9})
    assert made.foreign.labels.tolist() == [record.label for record in plain.select(split="test")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("utility.foreign={ use = 'phantom', image_size = 32, patients = 40 }", "films of (1, 32, 32)"),
        ("utility.foreign={ use = 'phantm' }", "Did you mean 'phantom'?"),
    ],
)
def test_a_foreign_site_must_fit(tmp_path, override, message):
    with pytest.raises(BadInput) as refused:
        plan(spec_with(tmp_path, override), tmp_path)
    assert message in str(refused.value)
