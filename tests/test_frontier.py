"""Utility in the report: its table, the frontier, the policy that decides the exit code, and the recommendation."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from gradiograph.cli import app
from gradiograph.core.errors import BadSetting
from gradiograph.core.predictions import Predictions
from gradiograph.core.records import Row
from gradiograph.core.rounds import Outcome, RoundRecord
from gradiograph.core.seeds import numpy_stream
from gradiograph.log import Cell, Log, ModelCell, cell_id
from gradiograph.report import Policy, Results, policy_of, recommend, render, render_markdown, rule, write_tables
from gradiograph.report.budget_chart import budget_chart
from gradiograph.report.frontier import frontier
from gradiograph.report.statistics import collect
from gradiograph.report.utility import models, told, utility_tables

TASK, PROTOCOL, BATCHES, SIZE = "net", "fedavg", 16, 4
# What each protection leaks (share identified) and how sure the model is of the right class.
PROTECTIONS = {
    "none": (1.0, 3.0),
    "noise(std=1)": (0.5, 2.8),
    "noise(std=2)": (0.0, 2.6),
    "noise(std=9)": (0.0, 0.3),
    "weak": (1.0, 2.0),
}


def header(**spec):
    family = lambda label: label.partition("(")[0]  # noqa: E731
    return {
        "status": "complete", "name": "frontier", "spec": spec, "cells_total": 0, "threat": {}, "data": {},
        "tasks": [{"label": TASK, "detail": "", "parameters": 5, "trainable_parameters": 5, "mode": "train"}],
        "protocols": [{"label": PROTOCOL}],
        "defences": [{"label": name, "family": family(name), "detail": "", "guarantee": None} for name in PROTECTIONS],
        "attacks": [{"label": "rog", "detail": "", "paper": ""}],
        "metrics": [{"name": "identification_top1", "unit": "", "larger_leaks_more": True}],
        "utility": {"score": "auroc", "sites": 2, "rounds": 4},
    }  # fmt: skip


def predictions(skill, seed, films=400):
    rng = numpy_stream(0, "films")
    labels = np.arange(films) % 2
    noise = rng.normal(size=films) + 0.1 * numpy_stream(seed, "model").normal(size=films)
    odds = np.exp(skill * (labels - 0.5) + noise)
    probabilities = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)
    names = np.array([f"p{place // 2:04d}" for place in range(films)])
    return Predictions(labels=labels, probabilities=probabilities, patients=names, sites=np.arange(films) // 2 % 2)


def write_attack(log, defence, share, number):
    for batch in range(BATCHES):
        for control in ("none", "mismatched_update"):
            key = {"task": TASK, "protocol": PROTOCOL, "defence": defence, "attack": "rog", "control": control,
                   "batch": batch, "seed": 0, "round": number}  # fmt: skip
            hit = float(control == "none" and batch // 4 < 4 * share)
            rows = [
                Row(
                    **key,
                    record=f"film {film} of batch {batch}",
                    metric="identification_top1",
                    value=hit,
                    larger_leaks_more=True,
                )
                for film in range(SIZE)
            ]
            log.write_cell(Cell(id=cell_id(**key), **key, num_bytes=100), rows, None)


def write_model(log, defence, arm, seed, skill, failed=""):
    key = {"task": TASK, "protocol": PROTOCOL, "defence": defence, "arm": arm, "seed": seed}
    record = RoundRecord(number=1, outcomes=(Outcome(client=0, num_bytes=70), Outcome(client=1, num_bytes=30)),
                         bytes_down=400, seconds=2.0)  # fmt: skip
    cell = ModelCell(id=cell_id(**key), **key, failed=failed, history=(record,))
    log.trainings.write(cell, None if failed else predictions(skill, seed))


def make(directory, protections=PROTECTIONS, rounds=(1, 4), failed=(), **spec):
    log = Log.create(directory, header(**spec))
    for defence, (share, skill) in protections.items():
        for number in rounds:
            write_attack(log, defence, share if number == 1 else share / 2, number)
        for seed in (0, 1):
            write_model(log, defence, "federated", seed, skill, "it diverged" if defence in failed else "")
    for arm, skill in (("pooled", 3.2), ("site 0", 2.0), ("site 1", 1.8)):
        write_model(log, "none", arm, 0, skill)
    log.update(cells_total=len(log.cells()))
    return log


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return make(tmp_path_factory.mktemp("log") / "run", policy={"max_identification": 0.1, "max_loss": 0.1})


@pytest.fixture(scope="module")
def results(log):
    return Results.read(log)


def points(results):
    return {point.defence: point for point in frontier(results, models(results))}


def test_the_table_has_every_arm_with_the_loss_against_no_protection(results):
    (table,) = utility_tables(results, models(results))
    names = [line.name for line in table.lines]
    assert names == ["No protection", *list(PROTECTIONS)[1:], "All films at one site", "Site 0 alone", "Site 1 alone"]
    by_name = {line.name: line for line in table.lines}
    assert by_name["No protection"].loss == ""
    assert float(by_name["noise(std=9)"].loss.split()[0]) > 0.1
    assert float(by_name["All films at one site"].loss.split()[0]) < 0
    assert by_name["weak"].sent == "100 bytes"
    assert by_name["Site 0 alone"].sent == ""
    assert len(by_name["weak"].sites.split(", ")) == 2


def test_a_point_is_the_strongest_attack_of_any_round_and_the_model_trained_so(results):
    found = points(results)
    assert list(found) == list(PROTECTIONS)
    assert {name: (p.leakage.mean, p.round) for name, p in found.items()} == {
        name: (share, 1) for name, (share, _) in PROTECTIONS.items()
    }
    by_arm = {(m.defence, m.arm): m for m in models(results)}
    from gradiograph.utility import MEASURES, estimate

    expected = estimate([predictions(2.8, 0), predictions(2.8, 1)], MEASURES["auroc"])
    assert found["noise(std=1)"].utility == expected == by_arm["noise(std=1)", "federated"].value(MEASURES["auroc"])
    assert found["none"].loss.value == 0
    assert 0 < found["noise(std=2)"].loss.value < found["noise(std=9)"].loss.value


def test_the_front_is_what_no_other_beats_in_both(results):
    front = {name for name, point in points(results).items() if point.on_front}
    # weak leaks as much as no protection and is less useful; std=9 leaks as little as std=2 and is less useful.
    assert front == {"none", "noise(std=1)", "noise(std=2)"}


def budget(defence, epsilon):
    account = {"epsilon": epsilon, "unit": "image", "delta": 1e-5, "kind": "tight", "values": {"PLD": epsilon},
               "difference": 0.0, "group": 1, "group_epsilon": epsilon}  # fmt: skip
    return {
        "protocol": PROTOCOL, "defence": defence, "noise_multiplier": 1.0, "trained": [account], "attacked": [account],
        "films": 100, "identification_bound": 0.21, "membership_advantage": 0.3, "meaning": [],
    }  # fmt: skip


def test_budgets_are_drawn_over_epsilon_with_the_bound_and_without_protection_at_their_end(tmp_path):
    log = make(tmp_path / "run")
    log.update(privacy=[budget("noise(std=1)", 8.0)])
    assert "What each privacy budget costs" not in render(log)
    log.update(privacy=[budget("noise(std=1)", 8.0), budget("noise(std=2)", 1e4)])
    results = Results.read(log)
    assert {name: p.bound for name, p in points(results).items() if p.bound} == {
        "noise(std=1)": pytest.approx(0.2), "noise(std=2)": pytest.approx(0.2)
    }  # fmt: skip
    chart = budget_chart(results, frontier(results, models(results)), "AUROC", 0)
    for text in (">8<", ">1e+04<", ">no protection<", "its control", "bound on any attack"):
        assert text in chart
    assert "What each privacy budget costs" in render(log)


def test_a_strength_that_leaks_late_is_seen(tmp_path):
    log = make(tmp_path / "run", protections={"none": (1.0, 3.0), "weak": (0.0, 2.0)}, rounds=(1,))
    write_attack(log, "none", 1.0, 4)
    write_attack(log, "weak", 0.75, 4)
    point = points(Results.read(log))["weak"]
    assert (point.leakage.mean, point.round) == (0.75, 4)
    assert point.upper >= point.leakage.high


def test_a_training_that_failed_has_no_utility_and_is_on_no_front(tmp_path):
    log = make(tmp_path / "run", protections={"none": (1.0, 3.0), "noise(std=2)": (0, 1)}, failed=("noise(std=2)",))
    results = Results.read(log)
    point = points(results)["noise(std=2)"]
    assert point.utility.value is None
    assert not point.on_front
    rulings = {r.defence: r for r in rule(results, Policy(max_identification=0.1, max_loss=1.0))}
    assert "what it costs is not known" in rulings["noise(std=2)"].failures[0]
    assert "it diverged" in render(log)


def test_the_policy_bounds_the_upper_limit_and_the_loss(results):
    rulings = {ruling.defence: ruling for ruling in rule(results, policy_of(results))}
    assert set(rulings) == {"noise(std=1)", "noise(std=2)", "noise(std=9)", "weak"}
    assert [name for name, ruling in rulings.items() if ruling.passed] == ["noise(std=2)"]
    assert "identifies up to" in rulings["noise(std=1)"].failures[0]
    assert "it costs" in rulings["noise(std=9)"].failures[0]
    # None of 64 films: at most 3/64.
    strict = {r.defence: r for r in rule(results, Policy(max_identification=0.03))}
    assert "4.7 %" in strict["noise(std=2)"].failures[0]


def test_hits_of_the_control_do_not_push_the_limit_below_what_so_few_films_can_tell(results):
    lucky = tuple(
        replace(row, value=1.0)
        if (row.defence, row.control, row.batch) == ("noise(std=2)", "mismatched_update", 0)
        else row
        for row in results.rows
    )
    changed = replace(results, rows=lucky, tables=collect(lucky))
    strict = {r.defence: r for r in rule(changed, Policy(max_identification=0.03))}
    assert "4.7 %" in strict["noise(std=2)"].failures[0]


def test_attacks_that_fail_without_protection_let_nothing_pass(tmp_path):
    results = Results.read(make(tmp_path / "run", protections={"none": (0.0, 3.0), "noise(std=2)": (0.0, 3.0)}))
    rulings = {r.defence: r for r in rule(results, Policy(max_identification=0.5))}
    assert "prove nothing" in rulings["noise(std=2)"].failures[0]


def test_the_cheapest_that_passes_is_recommended_and_holds_on_other_patients(results):
    found = recommend(results, Policy(max_identification=0.1, max_loss=0.5))
    assert found.holds
    assert found.chosen.defence == "noise(std=2)"
    assert found.sentence.startswith("Recommended: noise(std=2) (net, fedavg)")
    none = recommend(results, Policy(max_identification=0.01))
    assert not none.holds
    assert "none is recommended" in none.sentence


def test_what_holds_on_one_half_only_is_not_recommended(results):
    """The second half of the batches leaks under the protection that the first half chooses."""
    rows = tuple(
        replace(row, value=1.0)
        if row.defence == "noise(std=2)" and row.control == "none" and row.batch // 2 % 2 == 1
        else row
        for row in results.rows
    )
    found = recommend(replace(results, rows=rows), Policy(max_identification=0.1, max_loss=0.1))
    assert found.chosen.defence == "noise(std=2)"
    assert not found.holds
    assert found.sentence.startswith("None is recommended: noise(std=2)")


def test_the_two_halves_share_no_patient_and_no_batch(results):
    from gradiograph.report.recommend import _half_of_models, _half_of_results

    halves = [_half_of_models(models(results), side) for side in (0, 1)]
    patients = [{*half[0].predictions[0].patients} for half in halves]
    assert not patients[0] & patients[1]
    assert abs(len(patients[0]) - len(patients[1])) <= 1
    assert len(patients[0] | patients[1]) == 200
    batches = [{row.batch for row in _half_of_results(results, BATCHES, side).rows} for side in (0, 1)]
    assert not batches[0] & batches[1]
    assert {b // 2 for b in batches[0]} == set(range(0, 8, 2))


def test_too_few_batches_cannot_be_split(results):
    rows = tuple(row for row in results.rows if row.batch < 3)
    with pytest.raises(BadSetting, match="at least 4 attacked batches"):
        recommend(replace(results, rows=rows), Policy(max_identification=0.1))


def test_page_and_summary_show_the_utility_the_frontier_and_the_policy(log):
    page = render(log)
    assert "What it costs the model" in page
    assert "Pareto front" in page
    assert "All films at one site" in page
    assert "own policy" in page
    assert "net, round 4" in page
    summary = render_markdown(log)
    assert "## Utility: net / fedavg" in summary
    assert "- **noise(std=2)** passes." in summary


def test_the_tables_are_exported_for_their_owner(log):
    paths = write_tables(log.directory)
    assert [path.name for path in paths] == ["utility.csv", "frontier.csv"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    with paths[1].open(newline="") as file:
        lines = {line["defence"]: line for line in csv.DictReader(file)}
    assert float(lines["weak"]["leakage"]) == 1.0
    assert lines["noise(std=2)"]["on_front"] == "true"
    assert lines["noise(std=2)"]["family"] == "noise"
    assert float(lines["weak"]["bytes_per_round"]) == 100
    with paths[0].open(newline="") as file:
        entries = list(csv.DictReader(file))
    assert len(entries) == 8 * 6 * 3
    assert {entry["site"] for entry in entries} == {"all", "0", "1"}


def test_a_run_that_trains_nothing_has_no_such_tables(tmp_path):
    log = Log.create(tmp_path / "run", {**header(), "utility": None})
    write_attack(log, "none", 1.0, 1)
    assert write_tables(log.directory) == ()
    assert "What it costs the model" not in render(log)


def test_the_command_recommends_and_says_when_there_is_none(log):
    run = CliRunner().invoke
    assert run(app, ["recommend", str(log.directory)]).exit_code == 0
    found = run(app, ["recommend", str(log.directory), "--max-identification", "0.01"])
    assert found.exit_code == 1
    assert "none is recommended" in found.stdout


def test_an_undefined_value_is_told_as_such(results):
    one_class = replace(predictions(1.0, 0), labels=np.ones(400, dtype=np.int64))
    (model, *_) = models(results)
    found = replace(model, predictions={0: one_class})
    from gradiograph.utility import MEASURES

    assert told(found.value(MEASURES["auroc"])) == "undefined: films of 1 of 2 classes"
