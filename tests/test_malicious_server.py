"""What a malicious server plants, on known answers: films alone in a bin, units that fire for one; and the check."""

from dataclasses import replace
from statistics import median

import pytest
import torch
from typer.testing import CliRunner

from attack_observations import ignore
from gradiograph.attacks import Fishing, Imprint, TrapWeights
from gradiograph.attacks.change_points import segments
from gradiograph.attacks.dense_layer import first_dense_layer
from gradiograph.attacks.eigen import fit_eigen, save_prior
from gradiograph.attacks.trap_weights import shortest_rows
from gradiograph.audit import inspect_weights, load_spec, plan
from gradiograph.audit.inspection import parallel_share, rare_units
from gradiograph.cli import app
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, MissingKnowledge
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from gradiograph.data.phantom import phantom
from gradiograph.defences import GaussianNoise
from gradiograph.log import Log
from gradiograph.metrics import match
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import load_rooms
from gradiograph.testing.specimens import observe

SIDE = 32
SHAPE = (1, SIDE, SIDE)
MALICIOUS = ThreatModel(server="malicious")
ROUNDS = [FedSGD(), FedAvg(local_steps=5, learning_rate=1e-4)]
load_rooms()


@pytest.fixture(scope="module")
def films():
    return torch.from_numpy(phantom(image_size=SIDE, patients=90).read(list(range(90))))[:, :1]


@pytest.fixture(scope="module")
def prior(films, tmp_path_factory):
    file = tmp_path_factory.mktemp("prior") / "prior.npz"
    save_prior(fit_eigen(films[30:], 24), file, ["someone"])
    return file


def lenet(seed=0):
    return build("task", {"use": "lenet", "num_classes": 2}, SHAPE, seed)


def attacked(attack, films, protocol, defence=None, task=None):
    """The reconstruction of these films, each in its place, and each one's PSNR."""
    task = task or lenet()
    planted, state = attack.plant(task, task.state())
    planted.model.load_state_dict(state)
    batch = Batch(films, torch.arange(len(films)) % 2)
    seen = observe(planted, batch, threat=MALICIOUS, protocol=protocol, defence=defence or Chain())
    found = attack(seen, stream(0, "attack"), ignore)
    images = found.images[match(found.images, films)]
    return found, -10 * (images - films).square().flatten(1).mean(dim=1).clamp_min(1e-12).log10()


def test_change_points_are_found_under_noise_and_none_where_nothing_changes():
    levels = torch.randn(3, 400, generator=stream(0, "levels"), dtype=torch.float64)
    rows = levels[[0] * 7 + [1] * 2 + [2] * 11]
    noise = torch.randn(rows.shape, generator=stream(0, "noise"), dtype=torch.float64)
    cuts = [slice(0, 7), slice(7, 9), slice(9, 20)]
    assert segments(rows, 3) == cuts
    assert segments(rows + 0.5 * noise, 6) == cuts
    assert segments(noise, 6) == [slice(0, 20)]
    assert segments(rows, 1) == [slice(0, 20)]


@pytest.mark.parametrize("protocol", ROUNDS, ids=["fedsgd", "fedavg"])
def test_an_imprint_holds_each_film_of_a_batch(films, prior, protocol):
    found, quality = attacked(Imprint(prior=prior), films[:8], protocol)
    assert "partial" not in found.flags
    assert float(quality.min()) > 30


def test_films_of_one_brightness_share_a_bin_and_the_imprint_says_so(films, prior):
    level = films[:4] - films[:4].mean(dim=(1, 2, 3), keepdim=True) + 0.5
    found, quality = attacked(Imprint(prior=prior), torch.cat([level, films[4:6]]).clamp(0, 1), FedSGD())
    assert "partial" in found.flags
    assert int((quality > 30).sum()) < 6


def test_under_noise_the_prior_takes_noise_off_an_imprint(films, prior):
    noise = Chain(stages=(GaussianNoise(snr=10.0),))
    bare, without = attacked(Imprint(), films[:3], FedSGD(), noise)
    _, informed = attacked(Imprint(prior=prior), films[:3], FedSGD(), noise)
    assert bare.images.shape == (3, *SHAPE)
    assert float(informed.mean()) > float(without.mean()) + 2


def test_an_imprint_fits_any_model_and_a_later_round(films):
    task = build("task", {"use": "small_cnn", "num_classes": 2}, SHAPE, 0)
    trained = {name: tensor + 1 for name, tensor in task.state().items()}
    planted, state = Imprint().plant(task, trained)
    assert torch.equal(state["model.0.weight"], trained["0.weight"])
    assert set(planted.trainable) > {f"model.{name}" for name in task.trainable}
    _, quality = attacked(Imprint(), films[:6], FedSGD(), task=task)
    assert float(quality.median()) > 40


@pytest.mark.parametrize(("protocol", "least"), [(ROUNDS[0], 6), (ROUNDS[1], 3)], ids=["fedsgd", "fedavg"])
def test_trap_weights_show_films_that_fire_a_unit_alone(films, prior, protocol, least):
    _, quality = attacked(TrapWeights(prior=prior, films=8), films[:8], protocol)
    assert int((quality > 28).sum()) >= least


def test_shortest_rows_are_the_films_of_which_longer_ones_are_sums():
    films = torch.rand(3, 60, generator=stream(0, "films")) + 0.1
    chosen = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 1], [1, -1, 0]]).float()
    scale = torch.tensor([1.0, -2.0, 3.0, -1.0, 0.5, 1.0, 1.0])
    found = shortest_rows(scale[:, None] * (chosen @ films), scale, 3)
    cosines = torch.nn.functional.normalize(found, dim=1) @ torch.nn.functional.normalize(films, dim=1).T
    assert cosines.abs().max(dim=1).values.min() > 1 - 1e-6
    assert sorted(cosines.abs().argmax(dim=1).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("protocol", ROUNDS, ids=["fedsgd", "fedavg"])
def test_fishing_lands_one_film_of_a_large_batch(films, prior, protocol):
    found, quality = attacked(Fishing(prior=prior, films=30), films[:30], protocol)
    assert "partial" in found.flags
    assert int((quality > 26).sum()) == 1


@pytest.mark.parametrize("attack", [Imprint(), TrapWeights(), Fishing()])
def test_an_honest_server_plants_nothing(films, attack):
    with pytest.raises(MissingKnowledge, match='server = "malicious"'):
        attack(observe(lenet(), Batch(films[:2], torch.tensor([0, 1]))), stream(0, "attack"), ignore)


AUDIT = """
name = "malicious"
purpose = "test"
authorised_by = "the phantom is no patient"
data = {{ use = "phantom", image_size = 32, patients = 120 }}
victims = {{ batches = 2, size = 6 }}
task = {{ use = "lenet", num_classes = 2 }}
protocol = {{ use = "fedavg", local_steps = 3, learning_rate = 1e-4 }}
threat = {{ server = "{server}" }}
attacks = [{{ use = "imprint" }}]
metrics = ["psnr"]
"""


def written(folder, server):
    (folder / "audit.toml").write_text(AUDIT.format(server=server))
    return load_spec(folder / "audit.toml")


def test_an_audit_plants_attacks_and_reports_it(tmp_path):
    written(tmp_path, "malicious")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    log = Log.open(tmp_path / "run")
    values = {row.control: [] for row in log.rows()}
    for row in log.rows():
        values[row.control].append(row.value)
    assert median(values["none"]) > 28
    assert max(values["mismatched_update"]) < 25
    assert "prepared to make updates leak" in (tmp_path / "run" / "report.html").read_text()


def test_an_audit_of_an_honest_server_refuses_to_plant(tmp_path):
    with pytest.raises(MissingKnowledge, match=r'threat\.server = "malicious"'):
        plan(written(tmp_path, "honest_but_curious"), tmp_path)


def test_a_captured_update_was_not_planted(tmp_path):
    captured = '\n[captured]\nnum_examples = 2\noriginals = { use = "phantom", image_size = 32 }\n'
    (tmp_path / "audit.toml").write_text(AUDIT.format(server="malicious") + captured)
    update = ["--update", str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    result = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run"), *update])
    assert isinstance(result.exception, BadSetting)
    assert "would send" in str(result.exception)


def inspected(tmp_path, state, before=None):
    made = plan(written(tmp_path, "malicious"), tmp_path)
    torch.save(state, tmp_path / "weights.pt")
    if before is not None:
        torch.save(before, tmp_path / "before.pt")
    signs = inspect_weights(made, tmp_path / "weights.pt", None if before is None else tmp_path / "before.pt")
    return {sign.where: sign for sign in signs if sign.is_suspicious}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_check_is_quiet_for_a_fresh_network(tmp_path, seed):
    assert not inspected(tmp_path, lenet(seed).state())


def test_the_check_finds_planted_models(tmp_path, prior):
    task = lenet()
    weight = first_dense_layer(task)
    imprinted = inspected(tmp_path, Imprint().plant(task, task.state())[1])
    assert {"all tensors", "imprint.weight"} <= set(imprinted)
    assert inspected(tmp_path, Fishing(prior=prior).plant(task, task.state())[1])[weight].what.startswith("share")
    trapped = inspected(tmp_path, TrapWeights(prior=prior, films=12).plant(task, task.state())[1])
    assert "of your films" in trapped[weight].what


def test_the_check_finds_a_layer_that_moved_farther_than_training_does(tmp_path):
    before = lenet(0).state()
    small = {name: tensor + 0.01 * tensor for name, tensor in before.items()}
    assert not inspected(tmp_path, small, before)
    assert "change since" in inspected(tmp_path, lenet(1).state(), before)["7.weight"].what


def test_parallel_rows_and_rare_units_are_shares():
    assert parallel_share(torch.randn(64, 100, generator=stream(0, "w"))) < 0.3
    task = lenet()
    (sign,) = rare_units(task, task.state(), torch.rand(8, *SHAPE, generator=stream(0, "films")))
    assert 0 <= sign.value <= 1


def test_the_verb_names_the_sign_and_ends_with_1(tmp_path):
    task = lenet()
    (tmp_path / "audit.toml").write_text(AUDIT.format(server="malicious"))
    for name, state in (("good", task.state()), ("bad", Imprint().plant(task, task.state())[1])):
        torch.save(state, tmp_path / f"{name}.pt")
        result = CliRunner().invoke(app, ["inspect", str(tmp_path / "audit.toml"), str(tmp_path / f"{name}.pt")])
        assert result.exit_code == (name == "bad"), result.output
        assert ("Do not train" in result.output) == (name == "bad")


def test_an_imprint_whose_rows_were_dropped_finds_nothing_and_says_so(films, prior):
    attack, task = Imprint(prior=prior), lenet()
    planted, _ = attack.plant(task, task.state())
    seen = observe(planted, Batch(films[:3], torch.tensor([0, 1, 0])), threat=MALICIOUS)
    (state, update), *_ = seen.rounds
    dropped = {**update.tensors, "imprint.weight": torch.zeros_like(update.tensors["imprint.weight"])}
    found = attack(replace(seen, rounds=((state, replace(update, tensors=dropped)),)), stream(0, "attack"), ignore)
    assert "partial" in found.flags
    assert torch.equal(found.images[0], found.images[2])
    assert bool(torch.isfinite(found.images).all())
