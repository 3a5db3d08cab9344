import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest
import torch

from gradiograph.attacks.eigen import fit_eigen, save_prior
from gradiograph.audit import load_spec, parse_spec, plan, rescore, run, run_captured
from gradiograph.audit.client import client_update, observe
from gradiograph.audit.grid import MISMATCHED, NONE, ORACLE, SPECTRUM, TRUTH
from gradiograph.audit.victims import label_sequence, mismatched_batch
from gradiograph.core.attack import Attack
from gradiograph.core.errors import BadInput, BadSetting, DataProblem, LogProblem, MissingKnowledge, WeightsProblem
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch, Reconstruction
from gradiograph.log import Log
from gradiograph.report import render
from gradiograph.testing import check_custody

AUDIT = """
name = "tiny"
purpose = "test"
authorised_by = "test"
seeds = [1, 2]
data = { use = "phantom", image_size = 16, patients = 60, fractions = [0.3, 0.2, 0.5] }
victims = { batches = 2, size = 2 }
task = { use = "lenet" }
protocol = { use = "fedavg", local_steps = 2, learning_rate = 1e-3 }
threat = { knows_labels = true }
defences = [[], [{ use = "top_k", sparsity = 0.5 }, { use = "gaussian_noise", snr = 1.0 }]]
attacks = [{ use = "rog", steps = 2 }, { use = "latent_matching", steps = 2 }]
defended = { seeds = [1], attacks = [{ use = "rog", steps = 2 }] }
metrics = [{ use = "identification", distance = "pixels", min_gallery = 5 }, "psnr", "mse", "variance_explained"]
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


def values(log):
    return {(r.defence, r.attack, r.control, r.batch, r.seed, r.record, r.metric): r.value for r in log.rows()}


def test_every_attack_stands_beside_its_controls(finished):
    log = finished
    assert log.header["status"] == "complete"
    found = {(cell.defence, cell.attack, cell.control, cell.batch, cell.seed) for cell in log.cells()}
    for defence, attack, _, batch, seed in [key for key in found if key[2] == NONE]:
        assert (defence, attack, MISMATCHED, batch, seed) in found
    for control in ("stock_film", "mean_film"):
        assert {(batch, seed) for *_, kind, batch, seed in found if kind == control} == {
            (b, s) for b in (0, 1) for s in (1, 2)
        }
    defended = {(attack, seed) for defence, attack, _, _, seed in found if defence not in ("", "none")}
    assert defended == {("rog(steps=2)", 1)}
    assert len(log.cells()) == log.header["cells_total"]


def test_the_controls_are_what_they_say(finished):
    by_key = {(c.defence, c.attack, c.control, c.batch, c.seed): c for c in finished.cells()}
    truth = finished.victims(0).images
    one, other, control = (
        finished.images(by_key["none", "rog(steps=2)", kind, batch, 1].id)
        for kind, batch in ((NONE, 0), (NONE, 1), (MISMATCHED, 0))
    )
    assert not np.array_equal(control, one)
    assert sorted(map(np.ndarray.tobytes, control)) == sorted(map(np.ndarray.tobytes, other))
    mean = finished.images(by_key["", "", "mean_film", 0, 1].id)
    assert np.array_equal(mean[0], mean[1])
    explained = [r.value for r in finished.rows() if r.control == "mean_film" and r.metric == "variance_explained"]
    assert explained == pytest.approx([0] * len(explained), abs=1e-6)
    assert truth.shape == one.shape


def test_bytes_on_the_wire_follow_the_defence(finished):
    sizes = {cell.defence: cell.num_bytes for cell in finished.cells() if cell.attack}
    parameters = finished.header["tasks"][0]["trainable_parameters"]
    assert sizes["none"] == 4 * parameters


def test_the_report_renders_and_says_what_it_is(finished):
    page = render(finished)
    assert "other patients" in page
    assert finished.header["tasks"][0]["mode"] in page


def test_files_are_the_owners_alone(finished):
    modes = {path.name: path.stat().st_mode & 0o077 for path in finished.directory.rglob("*")}
    assert not any(modes.values()), modes


def test_nothing_names_a_patient(finished):
    names = {
        record.patient for record in plan(parse_spec(finished.header["spec"]), finished.directory).films.dataset.records
    }
    text = b"".join(
        path.read_bytes() for path in finished.directory.rglob("*") if path.suffix in {".json", ".jsonl", ".csv"}
    )
    assert not any(f'"{name}"'.encode() in text for name in names)


def test_workers_find_the_same(finished, tmp_path):
    log = run(spec_with(tmp_path), tmp_path, tmp_path / "run", workers=2)
    assert values(log).keys() == values(finished).keys()
    for key, value in values(log).items():
        assert value == pytest.approx(values(finished)[key], rel=1e-3, abs=1e-4), key


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_killed_run_resumes_to_the_same_rows(finished, tmp_path, after):
    file, out = tmp_path / "audit.toml", tmp_path / "run"
    file.write_text(AUDIT)
    code = "import sys; from gradiograph.cli import main; sys.argv[0] = 'gradiograph'; main()"
    command = [sys.executable, "-c", code, "run", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("cells/*"))) <= after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = run(load_spec(file), tmp_path, out, resume=True) if (out / "audit.json").exists() else None
    assert resumed is not None
    assert resumed.header["status"] == "complete"
    assert values(resumed) == values(finished)
    assert (out / "rows.csv").read_bytes() == (finished.directory / "rows.csv").read_bytes()


def test_an_interrupted_run_says_so_and_goes_on(tmp_path):
    def interrupt(done, total, share, what):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec_with(tmp_path), tmp_path, tmp_path / "run", progress=interrupt)
    log = Log.open(tmp_path / "run")
    assert log.header["status"] == "interrupted"
    assert len(log.cells()) == 5
    assert run(spec_with(tmp_path), tmp_path, tmp_path / "run", resume=True).header["status"] == "complete"


def test_an_error_is_in_the_log_and_loses_nothing(tmp_path, monkeypatch):
    calls = iter([None] * 4)

    def fail(*_):
        next(calls)

    monkeypatch.setattr(import_module("gradiograph.audit.run"), "run_cell", fail)
    with pytest.raises(StopIteration):
        run(spec_with(tmp_path), tmp_path, tmp_path / "run")
    header = Log.open(tmp_path / "run").header
    assert (header["status"], header["error"]) == ("failed", "StopIteration")


def test_a_resumed_run_must_be_the_same_audit(finished, tmp_path):
    with pytest.raises(LogProblem, match="attacks"):
        run(spec_with(tmp_path, "attacks.0.steps=3"), tmp_path, finished.directory, resume=True)


def test_an_existing_folder_is_not_touched(finished, tmp_path):
    before = values(finished)
    with pytest.raises(LogProblem, match="--resume"):
        run(spec_with(tmp_path), tmp_path, finished.directory)
    assert values(Log.open(finished.directory)) == before


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("attacks.0.use=rogg", "Did you mean 'rog'"),
        ("attacks.0.step=3", "Did you mean 'steps'"),
        ("attacks.0.steps=0", "steps = 0"),
        ("victms.size=2", "Did you mean 'victims'"),
        ("victims.sise=2", "Did you mean 'size'"),
        ("victims.batches=1", "victims.batches = 1"),
        ("victims.size=-2", "victims.size = -2"),
        ("victims.size=40", "more patients of class"),
        ("victims.clients=40", "patients"),
        ("protocol.learning_rate=-1.0", "learning_rate = -1.0"),
        ("protocol.local_steps=0", "local_steps = 0"),
        ("task.num_classes=3", "num_classes = 2"),
        ("threat.knows_label=true", "Did you mean 'knows_labels'"),
        ("threat.knows_labels=false", "knows_labels"),
        ("threat.knows_batch_order=true", "knows_batch_order"),
        ("defences=[[{use = 'sign_sgd'}]]", "baseline"),
        ("defences=[[], [{use = 'top_k', sparsity = 1.5}]]", "sparsity = 1.5"),
        ("seeds=[1, 1]", "twice"),
        ("attacks=[{use='rog'}, {use='rog'}]", "twice"),
        ("public.split=test", "own what it attacks"),
        ("data.image_size=8", "image_size"),
        ("metrics.0.min_gallery=5000", "gallery of at least 5000"),
        ("metrics=['sim']", "Did you mean 'ssim'"),
        ("defended.batches=3", "defended.batches = 3"),
        ("nonsense", "key=value"),
        ("attacks.9.steps=3", "no place"),
        ("name=", "name"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, override, words):
    with pytest.raises(BadInput, match=words.replace("(", r"\(")) as caught:
        run(spec_with(tmp_path, override), tmp_path, tmp_path / "run")
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_attack_does_not_peek_at_what_it_is_not_granted(tmp_path):
    with pytest.raises(MissingKnowledge, match="knows_protocol"):
        plan(spec_with(tmp_path, "threat.knows_protocol=false"), tmp_path)


@pytest.fixture
def prior():
    films = torch.rand(8, 1, 16, 16, generator=stream(0, "prior"))
    return fit_eigen(films.expand(-1, 3, -1, -1), 3)


@pytest.mark.parametrize("key", ["attacks", "defended.attacks"])
@pytest.mark.parametrize("attack", ["map", "unmixing"])
def test_a_prior_that_knows_a_victim_is_refused(tmp_path, prior, key, attack):
    victims = plan(spec_with(tmp_path), tmp_path).films.victims
    spec = spec_with(tmp_path, f"{key}=[{{ use = '{attack}', steps = 2, prior = 'prior.npz' }}]")
    with pytest.raises(BadInput, match="does not exist"):
        plan(spec, tmp_path)
    save_prior(prior, tmp_path / "prior.npz", ["somebody else", victims[1].records[0].patient])
    with pytest.raises(BadInput, match="1 of the 4 patients that are attacked"):
        plan(spec, tmp_path)
    save_prior(prior, tmp_path / "prior.npz")
    with pytest.raises(BadInput, match="does not say whose films"):
        plan(spec, tmp_path)
    save_prior(prior, tmp_path / "prior.npz", ["somebody else"])
    assert plan(spec, tmp_path).cells


def test_the_observation_cannot_reach_the_films(tmp_path):
    made = plan(spec_with(tmp_path), tmp_path)
    victims = made.films.victims[0]
    batch = Batch(torch.from_numpy(victims.read()), torch.from_numpy(victims.labels))
    task = made.task(made.spec.task[0], 1)
    protocol, defence = made.builder.make("protocol", made.spec.protocol[0]), made.builder.chain(made.spec.defences[1])
    update = client_update(task, task.state(), batch, protocol, defence, 1)
    observation = observe(task, task.state(), update, protocol, defence, made.spec.threat, batch.targets)
    check_custody(observation, batch.images)
    hidden = made.spec.threat.model_copy(
        update={"knows_labels": False, "knows_protocol": False, "knows_defence": False}
    )
    blind = observe(task, task.state(), update, protocol, defence, hidden, batch.targets)
    assert (blind.labels, blind.simulate, blind.defence, blind.local_steps) == (None, None, None, None)


@pytest.mark.parametrize("granted", [True, False])
def test_an_attack_may_look_at_some_films_of_strangers(tmp_path, monkeypatch, granted):
    seen = []

    class Looking(Attack):
        def __call__(self, observation, generator, progress):
            seen.append(observation.public)
            images = torch.zeros(observation.num_examples, *observation.task.image_shape)
            return Reconstruction(images=images, targets=None, objective=(), seconds=0.0, flags=())

    cells = import_module("gradiograph.audit.cell")
    monkeypatch.setattr(cells, "build_attack", lambda *_: Looking())
    spec = spec_with(tmp_path, f"threat.public_data={str(granted).lower()}")
    run(spec, tmp_path, tmp_path / "out", workers=1)
    films = plan(spec, tmp_path).films
    assert seen
    if not granted:
        assert seen == [None] * len(seen)
        return
    strangers = films.public.read()
    for public in seen:
        assert set(public.targets.tolist()) == set(range(len(films.dataset.classes)))
        assert all((strangers == film).all(axis=(1, 2, 3)).any() for film in public.images.numpy())
        for batch in films.victims:
            check_custody(public, torch.from_numpy(batch.read()))


def test_no_patient_is_in_two_roles(tmp_path):
    films = plan(spec_with(tmp_path), tmp_path).films
    victims = [record.patient for batch in films.victims for record in batch.records]
    public, gallery = ({record.patient for record in role.records} for role in (films.public, films.gallery))
    assert len(victims) == len(set(victims))
    assert not set(victims) & (public | gallery)
    assert not public & gallery
    same = spec_with(tmp_path, "gallery.split=train")
    assert not plan(same, tmp_path).films.gallery.records


@pytest.mark.parametrize("batches", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_mismatched_batch_has_the_same_classes(tmp_path, batches, size):
    victims = spec_with(tmp_path).victims.model_copy(update={"batches": batches, "size": size})
    partners = [mismatched_batch(batch, batches) for batch in range(batches)]
    assert sorted(partners) == list(range(batches))
    for batch, partner in enumerate(partners):
        assert partner != batch
        assert label_sequence(batch, victims, 2) == label_sequence(partner, victims, 2)


def test_a_metric_can_be_added_later(finished, tmp_path):
    log = rescore(finished.directory, {"use": "ssim"})
    assert {r.control for r in log.rows() if r.metric == "ssim"} == {NONE, MISMATCHED, "stock_film", "mean_film"}
    before = {key: value for key, value in values(log).items() if key[-1].startswith("identification")}
    again = rescore(
        finished.directory,
        {"use": "identification", "distance": "pixels", "min_gallery": 5},
        spec_with(tmp_path),
        tmp_path,
    )
    after = {key: value for key, value in values(again).items() if key[-1].startswith("identification")}
    assert after == before
    with pytest.raises(BadInput, match="gallery"):
        rescore(finished.directory, {"use": "identification", "distance": "pixels", "min_gallery": 5})


def captured_files(tmp_path, *overrides):
    """An audit with a captured round of two phantom films, as another program would have left it."""
    spec = spec_with(tmp_path, *overrides)
    made = plan(spec, tmp_path)
    task, protocol = made.task(spec.task[0], 1), made.builder.make("protocol", spec.protocol[0])
    victims = made.films.victims[0]
    originals = tmp_path / "originals"
    from PIL import Image

    for place, (image, label) in enumerate(zip(victims.read(), victims.labels, strict=True)):
        folder = originals / made.films.dataset.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(folder / f"person{place}_bacteria_{place}.png")
    batch = Batch(torch.from_numpy(victims.read()), torch.from_numpy(victims.labels))
    change = protocol.local_update(task, task.state(), batch, None).tensors
    before, after = tmp_path / "before.pt", tmp_path / "after.pt"
    torch.save(task.state(), before)
    torch.save({name: tensor + change.get(name, 0) for name, tensor in task.state().items()}, after)
    captured = {
        "num_examples": 2,
        "originals": {"use": "folder", "path": "originals", "image_size": 16, "fractions": [0, 0, 1]},
    }
    return parse_spec({**spec.model_dump(mode="json", exclude_unset=True), "captured": captured}), before, after


def test_a_captured_update_is_attacked_and_scored(tmp_path):
    spec, before, after = captured_files(tmp_path, "attacks.0.steps=40")
    log = run_captured(spec, tmp_path, tmp_path / "run", before, after)
    by_control = {
        control: np.mean(
            [r.value for r in log.rows() if r.control == control and r.metric == "mse" and "rog" in r.attack]
        )
        for control in (NONE, MISMATCHED)
    }
    assert by_control[NONE] < by_control[MISMATCHED]
    assert {cell.batch for cell in log.cells() if cell.control != NONE} == {0}
    assert "rog" in render(log)


def test_a_captured_update_has_its_ceiling(tmp_path):
    ceiling = "ceiling={ blends = [0.1], batches = 2, jacobian = 4 }"
    spec, before, after = captured_files(tmp_path, "attacks=[{ use = 'rog', steps = 2 }]", "defended={}", ceiling)
    log = run_captured(spec, tmp_path, tmp_path / "run", before, after)
    oracle = {(cell.control, cell.batch) for cell in log.cells() if cell.control.startswith(ORACLE)}
    assert oracle == {("ceiling_10", 0), (TRUTH, 0), (SPECTRUM, 0)}
    assert len(log.cells()) == log.header["cells_total"]


def test_a_prior_that_knows_a_film_of_the_captured_update_is_refused(tmp_path, prior):
    spec, before, after = captured_files(tmp_path)
    spec = spec.model_copy(update={"attacks": [{"use": "map", "steps": 2, "prior": "prior.npz"}]})
    originals = build("data", {**spec.captured.originals, "path": str(tmp_path / "originals")})
    save_prior(prior, tmp_path / "prior.npz", ["somebody else", originals.records[0].patient])
    with pytest.raises(BadInput, match="1 of the 2 patients that are attacked"):
        run_captured(spec, tmp_path, tmp_path / "run", before, after)
    assert not (tmp_path / "run").exists()
    save_prior(prior, tmp_path / "prior.npz", ["somebody else"])
    assert run_captured(spec, tmp_path, tmp_path / "run", before, after).header["status"] == "complete"


def test_a_captured_update_that_does_not_fit_is_refused(tmp_path):
    spec, before, after = captured_files(tmp_path)
    with pytest.raises(BadSetting, match=r"\[captured\]"):
        run_captured(spec.model_copy(update={"captured": None}), tmp_path, tmp_path / "run", before, after)
    with pytest.raises(BadSetting, match="fedsgd"):
        run_captured(
            spec.model_copy(update={"protocol": [{"use": "fedsgd"}]}), tmp_path, tmp_path / "run", before, after
        )
    fewer = spec.model_copy(update={"captured": spec.captured.model_copy(update={"num_examples": 3})})
    with pytest.raises(DataProblem, match="num_examples is 3"):
        run_captured(fewer, tmp_path, tmp_path / "run", before, after)
    torch.save({"wrong": torch.zeros(2)}, after)
    with pytest.raises(WeightsProblem, match="fit"):
        run_captured(spec, tmp_path, tmp_path / "run", before, after)
    after.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(WeightsProblem):
        run_captured(spec, tmp_path, tmp_path / "run", before, after)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_measured_is_listed_or_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIOGRAPH_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    small = ["data.image_size=32", "seeds=[1]", "attacks=[{use='rog', steps=1}]", "defences=[[]]", "defended={}"]
    log = run(spec_with(tmp_path, *small, "metrics_if_available=['lpips']"), tmp_path, tmp_path / "run")
    assert [entry["what"] for entry in log.header["not_measured"]] == ["lpips"]
    assert "lpips" not in {row.metric for row in log.rows()}
    assert json.loads((tmp_path / "run" / "audit.json").read_text())["not_measured"][0]["why"]


def test_the_gallery_is_not_the_attackers(tmp_path):
    spec = spec_with(tmp_path)
    films = plan(spec.model_copy(update={"public": replace_split(spec.public, "val")}), tmp_path).films
    assert {record.split for record in films.public.records} == {"val"}
    assert {record.split for record in films.gallery.records} == {"test"}


def replace_split(films, split):
    return films.model_copy(update={"split": split})


def test_the_update_of_a_cell_does_not_depend_on_the_rest_of_the_grid(finished, tmp_path):
    fewer = spec_with(tmp_path, "attacks=[{use='rog', steps=2}]", "defended={}", "seeds=[1]", "defences=[[]]")
    log = run(fewer, tmp_path, tmp_path / "run")
    shared = values(log).keys() & values(finished).keys()
    assert shared
    assert all(values(log)[key] == values(finished)[key] for key in shared)
    assert {cell.id for cell in log.cells()} <= {cell.id for cell in finished.cells()}
