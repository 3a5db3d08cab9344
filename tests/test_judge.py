"""The judge knows a film again through blur and noise, reads findings, and never judges patients it was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate
from typer.testing import CliRunner

from gradiograph import audit
from gradiograph.cli import app
from gradiograph.core.errors import BadInput, BadSetting, WeightsProblem
from gradiograph.core.registry import build
from gradiograph.core.scoring import ScoringContext
from gradiograph.metrics import load_judge, require_stranger
from gradiograph.metrics.judge_training import contrast, view

AUDIT = {
    "name": "judge", "purpose": "a test", "authorised_by": "nobody",
    "data": {"use": "phantom", "image_size": 64, "patients": 120, "films_per_patient": 2, "fractions": [0.7, 0.0, 0.3]},
    "victims": {"split": "test", "batches": 2, "size": 2}, "public": {"split": "train"},
    "task": {"use": "lenet"}, "protocol": {"use": "fedsgd"}, "attacks": [{"use": "dlg", "steps": 1}],
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge") / "new" / "judge.npz"
    return path, audit.train_judge(audit.parse_spec(AUDIT), path.parent.parent, path, steps=80)


@pytest.fixture(scope="module")
def scene():
    """Films of patients that the judge does not know: the attacked ones, others of theirs, and a gallery."""
    films = audit.open_data(audit.parse_spec(AUDIT), Path())
    chosen = films.select(split="test")
    images = torch.from_numpy(films.read([record.index for record in chosen]))
    return images, torch.tensor([record.label for record in chosen]), [record.patient for record in chosen]


def context(path, gallery, labels):
    return ScoringContext(gallery=gallery, gallery_labels=labels, gallery_patients=(), mean_film=gallery.mean(dim=0),
                          network_folders={"judge": path})  # fmt: skip


def blurred(images):
    return interpolate(avg_pool2d(images, 4), size=images.shape[-2:], mode="bilinear")


def test_it_is_good_on_patients_that_it_was_not_trained_on_and_says_so(trained):
    path, quality = trained
    assert quality.same_film > 0.95
    assert quality.same_patient > 0.8
    assert quality.same_patient_pairs == quality.held_out_films // 2
    assert load_judge(path).card == json.loads(json.dumps(load_judge(path).card))
    assert load_judge(path).card["same_film"] == quality.same_film


def test_planted_cases_are_ordered_rightly(trained, scene):
    path, _ = trained
    images, labels, patients = scene
    own = [n for n in range(len(patients)) if patients.index(patients[n]) == n][:8]
    second = [max(k for k, name in enumerate(patients) if name == patients[n]) for n in own]
    rest = [n for n in range(len(patients)) if patients[n] not in {patients[k] for k in own}]
    material = context(path, images[rest], labels[rest])
    judge = load_judge(path)
    truth = judge.look(images[own])[0]
    noise = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    others = [next(n for n in rest if labels[n] == labels[k]) for k in own]
    near = {
        name: float((judge.look(guess)[0] * truth).sum(dim=1).mean())
        for name, guess in {
            "itself": images[own], "blurred": blurred(images[own]), "same patient": images[second],
            "other patient": images[others], "mirrored": images[own].flip(-1), "noise": noise,
        }.items()
    }  # fmt: skip
    assert near["itself"] > near["blurred"] > near["same patient"] > near["other patient"]
    assert near["same patient"] > near["mirrored"]
    assert near["other patient"] > near["noise"]
    metric = build(
        "metric", {"use": "identification", "distance": "judge", "scores": "reidentification", "min_gallery": 10}
    )
    found = {s.name: s.values for s in metric(blurred(images[own]), images[own], labels[own], material)}
    wrong = {s.name: s.values for s in metric(images[others], images[own], labels[own], material)}
    assert found["reidentification_top1"].mean() > 0.8
    assert wrong["reidentification_top1"].sum() == 0


def test_the_finding_is_read_by_another_network(trained, scene):
    path, _ = trained
    images, labels, _ = scene
    material = context(path, images, labels)
    metric = build("metric", {"use": "finding_agreement"})
    same = {s.name: s for s in metric(images[:8], images[:8], labels[:8], material)}
    assert same["finding_agreement"].values.min() == 1
    assert same["finding_distance"].values.max() == 0
    assert not same["finding_distance"].larger_leaks_more
    swapped = torch.stack([images[labels != label][0] for label in labels[:8]])
    other = {s.name: s.values.mean() for s in metric(swapped, images[:8], labels[:8], material)}
    near = {s.name: s.values.mean() for s in metric(blurred(images[:8]), images[:8], labels[:8], material)}
    assert near["finding_distance"] < other["finding_distance"]


def test_another_judge_asks_for_another_attribute(trained, scene):
    path, _ = trained
    images, labels, _ = scene
    material = context(path, images, labels)
    metric = build("metric", {"use": "finding_agreement", "judge": "judge_sex", "scores": "sex"})
    with pytest.raises(WeightsProblem, match=r"a judge named 'judge_sex'.*networks = \{ judge_sex = 'judge.npz' \}"):
        metric(images[:2], images[:2], labels[:2], material)
    both = replace(material, network_folders={**material.network_folders, "judge_sex": path})
    assert {s.name for s in metric(images[:2], images[:2], labels[:2], both)} == {"sex_agreement", "sex_distance"}


def test_films_are_apart_as_the_judge_sees_them(trained, scene):
    path, _ = trained
    images, labels, _ = scene
    material = context(path, images, labels)
    metric = build("metric", {"use": "feature_distance"})

    def distance(guess):
        (score,) = metric(guess, images[:8], labels[:8], material)
        assert not score.larger_leaks_more
        return score.values

    assert distance(images[:8]).max() == 0
    assert bool((distance(blurred(images[:8])) < distance(images[8:16])).all())


def test_contrast_is_that_of_the_paper_by_hand():
    e = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]]), dim=1)
    owners = torch.tensor([0, 0, 1, 1])
    total = 0.0
    for i in range(4):
        shares = torch.exp(e[i] @ e.T / 0.1)
        rest = sum(shares[j] for j in range(4) if j != i)
        total -= sum(torch.log(shares[j] / rest) for j in range(4) if j != i and owners[j] == owners[i])
    assert float(contrast(e, owners)) == pytest.approx(float(total / 4), rel=1e-5)


def test_views_repeat_and_stay_near_the_film():
    film = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    film = interpolate(film, size=64, mode="bicubic").clamp(0, 1)
    first, again = (view(film, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert 1e-4 < (first - film).square().mean() < 0.2


def test_a_patient_that_it_knows_is_refused(trained, scene):
    path, _ = trained
    require_stranger(path, scene[2])
    films = audit.open_data(audit.parse_spec(AUDIT), Path())
    known = [record.patient for record in films.select(split="train")]
    with pytest.raises(WeightsProblem, match="by heart") as refused:
        require_stranger(path, known)
    assert known[0] not in str(refused.value)
    swapped = audit.parse_spec({**AUDIT, "victims": {"split": "train", "batches": 2, "size": 2},
                                "public": {"split": "test"}, "networks": {"judge_sex": str(path)}})  # fmt: skip
    with pytest.raises(BadInput, match="by heart"):
        audit.plan(swapped, path.parent)


def test_without_a_judge_or_with_a_damaged_one_there_is_one_clear_error(tmp_path, scene, trained):
    path, _ = trained
    images, labels, _ = scene
    metric = build("metric", {"use": "finding_agreement"})
    damaged = tmp_path / "judge.npz"
    damaged.write_bytes(b"no archive")
    partial = tmp_path / "partial.npz"
    with np.load(path) as whole:
        np.savez(partial, **{name: whole[name] for name in whole.files if name != "weights.finding.bias"})
    broken = ((tmp_path / "none.npz", "does not exist"), (damaged, "is damaged"), (partial, "is damaged"))
    for path, words in broken:
        with pytest.raises(WeightsProblem, match=words):
            metric(images[:2], images[:2], labels[:2], context(path, images, labels))
    bare = ScoringContext(gallery=images, gallery_labels=labels, gallery_patients=(), mean_film=images[0],
                          network_folders={})  # fmt: skip
    with pytest.raises(WeightsProblem, match="needs a judge"):
        metric(images[:2], images[:2], labels[:2], bare)


def test_the_command_trains_and_refuses_to_overwrite(tmp_path):
    text = """
name = "j"
purpose = "p"
authorised_by = "a"
data = { use = "phantom", image_size = 16, patients = 60 }
victims = { batches = 2, size = 1 }
task = { use = "small_cnn" }
protocol = { use = "fedsgd" }
attacks = [{ use = "dlg" }]
"""
    (tmp_path / "audit.toml").write_text(text)
    words = ["judge", "train", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "j.npz"), "--steps", "2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "the finding:" in done.output
    with pytest.raises(BadSetting, match="exists"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    nowhere = [*words[:4], str(tmp_path / "audit.toml" / "j.npz"), *words[5:]]
    with pytest.raises(BadSetting, match="folder that you own"):
        CliRunner().invoke(app, nowhere, catch_exceptions=False)
