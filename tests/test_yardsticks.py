"""How near is near: planted cases in order, thresholds from pairs of films, the patient found by another film."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import validate

from gradiograph import audit
from gradiograph.audit.judges import Judges
from gradiograph.audit.yardsticks import yardsticks
from gradiograph.core.errors import DataProblem
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.scoring import ScoringContext
from gradiograph.log import Log
from gradiograph.report import render, render_markdown, schema, to_json

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "lpips"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the shared LPIPS weights are not on this machine")
PICTURES = [
    {"use": "mse"}, {"use": "psnr"}, {"use": "ssim"}, {"use": "ms_ssim"}, {"use": "variance_explained"},
    pytest.param({"use": "lpips"}, marks=needs_weights),
    pytest.param({"use": "lpips", "network": "squeeze"}, marks=needs_weights),
]  # fmt: skip
DISTANCES = ["pixels", pytest.param("lpips", marks=needs_weights)]
PATIENTS = 8

AUDIT = {
    "name": "yardsticks", "purpose": "a test", "authorised_by": "nobody", "seeds": [3],
    "data": {"use": "phantom", "image_size": 32, "patients": 120, "films_per_patient": 2, "fractions": [0.5, 0.0, 0.5]},
    "victims": {"split": "test", "batches": 2, "size": 2}, "public": {"split": "train"},
    "task": {"use": "lenet"}, "protocol": {"use": "fedsgd"},
    "defences": [[], [{"use": "gaussian_noise", "std": 1.0}]], "attacks": [{"use": "unmixing"}],
    "metrics": [{"use": "identification", "distance": "pixels", "min_gallery": 20}, "psnr", "mse"],
}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    """Eight films, what an attack may show of each, best first, and a gallery of others."""
    films = build("data", {"use": "phantom", "image_size": 64, "patients": 80, "films_per_patient": 2})
    images, labels = torch.from_numpy(films.read(range(160))), torch.tensor([r.label for r in films.records])
    truth, again = images[: 2 * PATIENTS : 2], images[1 : 2 * PATIENTS : 2]
    other = images[2 * PATIENTS : 4 * PATIENTS : 2]
    cases = {
        "the original": truth,
        "another film of the patient": again,
        "another patient": other,
        "the prior's guess": images[100:].mean(dim=0, keepdim=True).expand_as(truth),
        "mirrored": truth.flip(-1),
        "noise": torch.rand(truth.shape, generator=stream(1, "noise")),
    }
    context = ScoringContext(
        gallery=images[2 * PATIENTS :: 2], gallery_labels=labels[2 * PATIENTS :: 2], gallery_patients=(),
        mean_film=images[100:].mean(dim=0), network_folders={"lpips": WEIGHTS},
    )  # fmt: skip
    return truth, labels[: 2 * PATIENTS : 2], cases, context


@pytest.mark.parametrize("config", PICTURES)
def test_every_score_of_pictures_orders_planted_cases(config, planted):
    truth, labels, cases, context = planted

    def nearness(guess):
        (score,) = build("metric", config)(guess, truth, labels, context)
        return float(score.values.mean()) * (1 if score.larger_leaks_more else -1)

    near = {name: nearness(guess) for name, guess in cases.items()}
    assert near["the original"] > near["another film of the patient"]
    for worse in ("another patient", "the prior's guess", "mirrored"):
        assert near["another film of the patient"] > near[worse] > near["noise"], near


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gallery_finds_planted_films_and_patients(distance, planted):
    truth, labels, cases, context = planted
    metric = build("metric", {"use": "identification", "distance": distance, "min_gallery": 20})

    def found(guess, wanted):
        return float(metric(guess, wanted, labels, context)[0].values.mean())

    shares = {name: found(guess, truth) for name, guess in cases.items()}
    assert shares["the original"] == 1
    assert shares["another film of the patient"] > 0.7
    assert shares["mirrored"] < shares["another film of the patient"]  # chests are nearly symmetric
    for nobody in ("another patient", "the prior's guess", "noise"):
        assert shares[nobody] <= 1 / PATIENTS, shares
    again = cases["another film of the patient"]
    assert found(truth, again) > 0.7
    assert found(cases["another patient"], again) == 0


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yardsticks")
    return audit.run(audit.parse_spec(AUDIT), folder, folder / "run")


def rows(log, metric, defence="none", control="none"):
    return sorted(
        row.value for row in log.rows()
        if row.attack and (row.metric, row.defence, row.control) == (metric, defence, control)
    )  # fmt: skip


def test_a_patient_is_found_by_another_film_and_not_by_strangers_or_noise(log):
    assert np.mean(rows(log, "patient_identification_top1")) > 0.7
    assert sum(rows(log, "patient_identification_top1", control="mismatched_update")) == 0
    assert sum(rows(log, "patient_identification_top1", "gaussian_noise(std=1.0)")) == 0
    assert {entry["name"] for entry in log.header["metrics"]} >= {"patient_identification_rank", "psnr"}


def test_thresholds_come_from_pairs_of_films(log):
    found = {entry["metric"]: entry for entry in log.header["yardsticks"]}
    assert set(found) == {"psnr", "mse"}
    for entry in found.values():
        assert entry["told_apart"] > 0.95
        # Two films of each of the 60 test patients, a victim or of the gallery; the gallery's against each other.
        assert entry["one_patient"]["pairs"] == 60
        assert entry["two_patients"]["pairs"] == 56
    low, middle, high = found["mse"]["two_patients"]["quantiles"]
    assert found["mse"]["threshold"] < low < middle < high
    assert found["psnr"]["threshold"] > found["psnr"]["two_patients"]["quantiles"][2]


def test_every_form_of_the_report_prints_them(log):
    for page in (render(log), render_markdown(log)):
        assert "How near is near" in page
        assert "60 pairs" in page
        assert "Nearer than two patients" in page
    told = json.loads(to_json(log))
    validate(told, schema())
    assert told["yardsticks"] == log.header["yardsticks"]


def test_one_percent_of_the_pairs_of_two_patients_pass(monkeypatch):
    made = audit.plan(audit.parse_spec(AUDIT), Path())
    values = iter(np.arange(1000.0))

    def counting(guess, truth, labels, context):
        (score,) = build("metric", {"use": "mse"})(guess, truth, labels, context)
        return (replace(score, values=torch.tensor([next(values) for _ in labels])),)

    monkeypatch.setattr("gradiograph.audit.yardsticks._one_patient", lambda films: [])
    gallery = made.films.gallery
    pairs = [((gallery, 0), (gallery, 1))] * 250
    monkeypatch.setattr("gradiograph.audit.yardsticks._two_patients", lambda gallery: pairs)
    judged = Judges(metrics=(), pairwise=(counting,), of_patients=(), context=None)
    (entry,) = yardsticks(made.films, judged)
    assert entry["threshold"] == 2  # the third nearest of 250: two are nearer
    assert entry["one_patient"] is None
    assert entry["told_apart"] is None


def test_no_film_of_a_victim_stands_for_its_other_film():
    spec = audit.parse_spec({**AUDIT, "victims": {"split": "test", "batches": 2, "size": 8, "min_films": 2}})
    films = audit.plan(spec, Path()).films
    for batch, victims in enumerate(films.victims):
        places, others = films.other_films(batch)
        assert places == tuple(range(8))
        for victim, other in zip(victims.records, others.records, strict=True):
            assert victim.patient == other.patient
            assert victim.index != other.index


def test_patients_with_several_films_can_be_asked_for():
    mixed = {**AUDIT["data"], "films_per_patient": 1.3}
    asked = {"split": "test", "batches": 2, "size": 4, "min_films": 2}
    films = audit.plan(audit.parse_spec({**AUDIT, "data": mixed, "victims": asked}), Path()).films
    assert all(films.other_films(batch)[0] == (0, 1, 2, 3) for batch in range(2))
    with pytest.raises(DataProblem, match=r"with 3 films. Lower .*victims\.min_films"):
        audit.plan(audit.parse_spec({**AUDIT, "data": mixed, "victims": {**asked, "min_films": 3}}), Path())


def test_a_metric_scored_later_gets_its_threshold_and_its_patients(log, tmp_path):
    again = audit.run(audit.parse_spec({**AUDIT, "metrics": ["mse"]}), tmp_path, tmp_path / "run")
    search = {"use": "identification", "distance": "pixels", "min_gallery": 20}
    audit.rescore(again.directory, search, audit.parse_spec(AUDIT), tmp_path)
    audit.rescore(again.directory, {"use": "psnr"}, audit.parse_spec(AUDIT), tmp_path)
    scored = Log.open(again.directory)
    for metric in ("patient_identification_top1", "psnr"):
        assert rows(scored, metric) == rows(log, metric)
    assert [entry["metric"] for entry in scored.header["yardsticks"]] == ["mse", "psnr"]
