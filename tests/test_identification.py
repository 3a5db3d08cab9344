from pathlib import Path

import pytest
import torch

import gradiograph.metrics  # noqa: F401 - registers
from gradiograph.core.errors import BadInput, BadSetting
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.scoring import ScoringContext
from gradiograph.metrics import identification as room
from gradiograph.metrics.lpips import load_lpips, lpips_distance

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "lpips"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the shared LPIPS weights are not on this machine")
DISTANCES = ["pixels", pytest.param("lpips", marks=needs_weights)]
PER_CLASS = 12


def films(count, seed, channels=1, size=32):
    generator = stream(seed, "films")
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def gallery_context(gallery, labels):
    return ScoringContext(
        gallery=gallery,
        gallery_labels=labels,
        gallery_patients=tuple(map(str, range(len(gallery)))),
        mean_film=gallery.mean(0),
        network_folders={"lpips": WEIGHTS},
    )


def two_classes(channels=1):
    return gallery_context(films(2 * PER_CLASS, 1, channels), torch.arange(2).repeat(PER_CLASS))


def scored(guess, truth, labels, context, **settings):
    metric = build("metric", {"use": "identification", "min_gallery": PER_CLASS, **settings})
    return {score.name: score for score in metric(guess, truth, torch.tensor(labels), context)}


def ranks(*args, **settings):
    return scored(*args, **settings)["identification_rank"].values.tolist()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_truth_itself_is_identified_and_another_patients_film_is_not(distance, channels):
    context = two_classes(channels)
    truth = films(3, 2, channels)
    # Record 0 is reconstructed exactly, record 1 nearly, record 2 as a film of another patient of its class.
    guess = torch.stack([truth[0], (truth[1] + 0.02).clamp(0, 1), context.gallery[1]])
    scores = scored(guess, truth, [0, 0, 1], context, distance=distance)
    rank = scores["identification_rank"].values.tolist()
    assert rank[:2] == [1, 1]
    assert rank[2] > 1
    assert scores["identification_top1"].values.tolist() == [1, 1, 0]
    assert [scores[name].larger_leaks_more for name in scores] == [True, True, False]
    assert list(scores) == ["identification_top1", "identification_top5", "identification_rank"]


@pytest.mark.parametrize("distance", DISTANCES)
def test_agrees_with_sorting_all_distances_one_by_one(distance):
    context = two_classes()
    truth = films(4, 2)
    blend = torch.tensor([0.2, 0.9, 1.0, 1.0]).view(4, 1, 1, 1)
    guess = (1 - blend) * truth + blend * films(4, 3)
    labels = [0, 1, 1, 0]
    if distance == "lpips":
        points = load_lpips("alex", {"lpips": WEIGHTS})

        def apart(x, y):
            return lpips_distance(points(x[None]), points(y[None])).item()
    else:

        def apart(x, y):
            return (x.double() - y.double()).square().mean().item()

    expected = []
    for record, label in enumerate(labels):
        same_class = context.gallery[context.gallery_labels == label]
        own = apart(guess[record], truth[record])
        expected.append(1 + sum(apart(guess[record], film) <= own for film in same_class))
    found = ranks(guess, truth, labels, context, distance=distance)
    assert found == expected
    assert len(set(expected)) > 1


def test_ties_count_against_the_attack():
    truth = films(2, 2)
    gallery = torch.cat([truth[:1].repeat(3, 1, 1, 1), films(PER_CLASS, 1)])
    context = gallery_context(gallery, torch.zeros(len(gallery), dtype=torch.int64))
    assert ranks(truth, truth, [0, 0], context, distance="pixels") == [4, 1]


def test_only_films_of_the_same_class_compete():
    truth = torch.full((1, 1, 32, 32), 0.5)
    black, white = torch.zeros(PER_CLASS, 1, 32, 32), torch.ones(PER_CLASS, 1, 32, 32)
    context = gallery_context(torch.cat([black, white]), torch.arange(2).repeat_interleave(PER_CLASS))
    guess = torch.full_like(truth, 0.1)
    assert ranks(guess, truth, [0], context, distance="pixels") == [1 + PER_CLASS]
    assert ranks(guess, truth, [1], context, distance="pixels") == [1]


def test_top_five_is_rank_five_or_better():
    # Grey films at distance 1, 2, ... from a black reconstruction; the truth lies between them.
    levels = torch.arange(1, PER_CLASS + 1) / 20
    gallery = levels.view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    context = gallery_context(gallery, torch.zeros(PER_CLASS, dtype=torch.int64))
    truth = (torch.tensor([0.5, 4.5, 5.5, 12.5]) / 20).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    scores = scored(torch.zeros_like(truth), truth, [0] * 4, context, distance="pixels")
    assert scores["identification_rank"].values.tolist() == [1, 5, 6, 13]
    assert scores["identification_top1"].values.tolist() == [1, 0, 0, 0]
    assert scores["identification_top5"].values.tolist() == [1, 1, 0, 0]


def test_a_reconstruction_without_the_patient_has_a_uniform_rank():
    everybody = films(40 * (PER_CLASS + 1), 4, size=8)
    mean = everybody.mean(0, keepdim=True)
    found = []
    for some in everybody.split(PER_CLASS + 1):
        context = gallery_context(some[1:], torch.zeros(PER_CLASS, dtype=torch.int64))
        found += ranks(mean, some[:1], [0], context, distance="pixels")
    # 40 ranks, uniform on 1 to 13: their mean is 7 with a standard error of 0.6.
    assert 4.6 < sum(found) / len(found) < 9.4
    assert max(found) > 10
    assert min(found) < 4


@needs_weights
def test_the_gallery_is_described_once_and_a_record_does_not_depend_on_the_others(monkeypatch):
    described = []
    original = room.lpips_features

    def counting(images, network, context):
        described.append(len(images))
        return original(images, network, context)

    monkeypatch.setattr(room, "lpips_features", counting)
    context = two_classes()
    truth = films(2, 2)
    guess = 0.5 * truth + 0.5 * films(2, 3)
    together = ranks(guess, truth, [0, 1], context)
    assert described.count(PER_CLASS) == 2
    alone = [ranks(guess[[i]], truth[[i]], [i], context)[0] for i in range(2)]
    assert described.count(PER_CLASS) == 2
    assert together == alone


def test_a_gallery_that_is_too_small_is_refused():
    context = two_classes()
    truth = films(1, 2)
    with pytest.raises(BadInput, match=f"at least 250 films of the attacked class; class 1 has {PER_CLASS}"):
        ranks(truth, truth, [1], context, distance="pixels", min_gallery=250)
    with pytest.raises(BadInput, match=f"at least {PER_CLASS} films of the attacked class; class 7 has 0"):
        ranks(truth, truth, [7], context, distance="pixels")


@pytest.mark.parametrize("settings", [{"min_gallery": 0}, {"distance": "cosine"}, {"network": "vgg"}, {"nets": 1}])
def test_settings_are_checked(settings):
    with pytest.raises(BadSetting):
        build("metric", {"use": "identification", **settings})
