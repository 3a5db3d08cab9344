"""Membership: who took part is told, who did not is not, and no more are accused wrongly than promised."""

import copy
import json

import jsonschema
import pytest
import torch
from typer.testing import CliRunner

from gradiograph.audit import load_spec, plan, run
from gradiograph.audit.client import client_update
from gradiograph.audit.films import Selection
from gradiograph.audit.grid import MEMBERS, STRANGERS
from gradiograph.audit.membership import ACCUSED_WRONGLY, Asker, membership, slopes, standing
from gradiograph.cli import app
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.task import copy_buffers, mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.data.phantom import phantom
from gradiograph.log import Log
from gradiograph.report import Results, judge, render_markdown
from gradiograph.report.membership import memberships
from gradiograph.report.residual import residual_risks
from gradiograph.report.twin import schema, to_json
from gradiograph.testing import load_rooms

SIDE = 16
load_rooms()


@pytest.fixture(scope="module")
def data():
    return phantom(image_size=SIDE, channels=1, patients=400)


def some(data, start, stop):
    return Selection(dataset=data, records=tuple(data.records[start:stop]))


@pytest.mark.parametrize(("name", "side"), [("lenet", SIDE), ("resnet18", 64)])
def test_slopes_are_inner_products_with_each_films_own_gradient(name, side):
    task = build("task", {"use": name, "num_classes": 2}, (1, side, side), 0)
    source = some(phantom(image_size=side, channels=1, patients=3), 0, 3)
    state, films = task.state(), Batch(torch.from_numpy(source.read()), source.targets(task))
    direction = {n: torch.randn(state[n].shape, generator=stream(0, n)) for n in task.trainable}
    expected = []
    for place in range(3):
        part = films.part(slice(place, place + 1))
        own = mean_gradient(task, {**state, **copy_buffers(task, state)}, part)
        expected.append(sum(float((own[n] * direction[n]).sum()) for n in task.trainable))
    before = copy.deepcopy(state)
    found = slopes(task, state, direction, films)
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[n], state[n]) for n in state)


@pytest.mark.parametrize(
    ("protocol", "stack"),
    [
        ({"use": "fedsgd"}, []),
        ({"use": "fedavg", "local_steps": 3, "learning_rate": 1e-3}, []),
        ({"use": "fedsgd"}, [{"use": "sign_sgd"}]),
        ({"use": "fedsgd"}, [{"use": "gaussian_noise", "snr": 0.1}]),
    ],
    ids=["fedsgd", "fedavg", "signs", "noise"],
)
def test_who_took_part_is_told_and_who_did_not_is_not(protocol, stack, data):
    task = build("task", {"use": "lenet", "num_classes": 2}, (1, SIDE, SIDE), 0)
    victims, others = some(data, 0, 3), some(data, 3, 6)
    films = type("Films", (), {"gallery": some(data, 100, 400)})
    defence = Chain(stages=tuple(build("defence", config) for config in stack))
    batch = Batch(torch.from_numpy(victims.read()), victims.targets(task))
    update = client_update(task, task.state(), batch, build("protocol", protocol), defence, 0)
    asker = Asker.of(task, task.state(), some(data, 10, 100), 0)
    told, rank, strangers = membership(asker, update, victims, films, 120, 0)
    assert told.values.tolist() == [1.0] * 3
    assert float(rank.values.min()) > 0.98
    assert set(strangers.values.tolist()) == {120.0}
    told, _, _ = membership(asker, update, others, films, 120, 0)
    assert told.values.tolist() == [0.0] * 3


def test_films_of_two_sources_with_the_same_numbers_are_told_apart(data):
    task = build("task", {"use": "lenet", "num_classes": 2}, (1, SIDE, SIDE), 0)
    other = phantom(image_size=SIDE, channels=1, patients=400, seed=1)
    asked = [some(source, 0, 2) for source in (data, other)]
    asker = Asker.of(task, task.state(), some(data, 10, 20), 0)
    batch = Batch(torch.from_numpy(asked[0].read()), asked[0].targets(task))
    update = client_update(task, task.state(), batch, build("protocol", {"use": "fedsgd"}), Chain(), 0)
    assert not torch.allclose(*asker.scores(update, *asked))


def test_of_strangers_no_more_are_told_than_promised():
    scores = torch.randn(5000, 200, generator=stream(0, "scores"))
    told, rank, _ = standing(scores[:, 0], list(scores[:, 1:]))
    assert float(told.values.mean()) == pytest.approx(ACCUSED_WRONGLY, abs=0.004)
    assert float(rank.values.mean()) == pytest.approx(0.5, abs=0.02)
    few, _, _ = standing(torch.tensor([100.0]), [torch.zeros(98)])
    assert few.values.tolist() == [0.0]
    enough, _, _ = standing(torch.tensor([100.0]), [torch.zeros(99)])
    assert enough.values.tolist() == [1.0]


AUDIT = """
name = "members"
purpose = "test"
authorised_by = "the phantom is no patient"
data = { use = "phantom", image_size = 16, channels = 1, patients = 1200 }
victims = { batches = 2, size = 2 }
task = { use = "lenet", num_classes = 2 }
protocol = { use = "fedsgd" }
defences = [[], [{ use = "gaussian_noise", snr = 1e-9 }]]
attacks = [{ use = "latent_matching", labels = "joint", steps = 1 }]
membership = { films = 99 }
metrics = ["psnr"]
"""


def test_an_audit_asks_and_its_report_tells(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    ran = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.output
    results = Results.read(Log.open(tmp_path / "run"))
    assert results.complete
    bare, noisy = memberships(results, results.settings[0])
    assert (bare.defence, bare.entries[0].mean, bare.entries[0].control, bare.strangers) == (
        "none",
        "100 %",
        "0 %",
        "99",
    )
    assert noisy.entries[0].mean == "0 %"
    assert "Who took part" in (tmp_path / "run" / "report.html").read_text()
    risks = {row.defence: row.cells for row in residual_risks(results, judge(results))}
    assert any(cell.startswith("told of 100 %") and "control 0 %" in cell for cell in risks["none"])
    assert "### Who took part" in render_markdown(Log.open(tmp_path / "run"))
    twin = json.loads(to_json(Log.open(tmp_path / "run")))
    jsonschema.validate(twin, schema())
    assert {entry["metric"] for entry in twin["membership"]} == {"member_told", "member_rank", "member_strangers"}
    assert not any(row.metric.startswith("member") for row in results.rows)
    scored = CliRunner().invoke(app, ["score", str(tmp_path / "run"), "--metric", "mse"])
    assert scored.exit_code == 0, scored.output


def test_it_is_asked_once_for_all_attacks_and_only_where_the_audit_says_so(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    two = 'attacks=[{use="rog",labels="joint",steps=1},{use="latent_matching",labels="joint",steps=1}]'
    made = plan(load_spec(tmp_path / "audit.toml", [two]), tmp_path)
    asked = [cell for cell in made.cells if cell.control in (MEMBERS, STRANGERS)]
    assert len(asked) == 2 * 2 * 2
    assert len({cell.id for cell in asked}) == len(asked)
    with pytest.raises(BadSetting, match="99"):
        load_spec(tmp_path / "audit.toml", ["membership.films=50"])
    (tmp_path / "audit.toml").write_text(AUDIT.replace("membership = { films = 99 }\n", ""))
    assert not [
        c for c in plan(load_spec(tmp_path / "audit.toml"), tmp_path).cells if c.control in (MEMBERS, STRANGERS)
    ]


def test_at_a_later_round_the_trained_weights_are_asked(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    changes = ["utility={rounds=1,attack_rounds=[2],sites=2}", "defences=[[]]"]
    with pytest.raises(BadSetting):
        load_spec(tmp_path / "audit.toml", changes)
    changes[0] = "utility={rounds=2,attack_rounds=[2],sites=2}"
    log = run(load_spec(tmp_path / "audit.toml", changes), tmp_path, tmp_path / "run")
    asked = [cell for cell in log.cells() if cell.control in (MEMBERS, STRANGERS)]
    assert {(cell.round, cell.failed) for cell in asked} == {(2, "")}
    assert len(asked) == 4
