import pytest
import torch

from attack_observations import observe
from gradiograph.attacks import mask_differencing as module
from gradiograph.attacks.mask_differencing import MaskDifferencing
from gradiograph.attacks.subset_sums import find_summands
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch
from gradiograph.metrics import match
from gradiograph.protocols import FedAvg, FedSGD


def ignore(_):
    pass


def smooth_films(count, seed):
    """Films that are alike, as chest films are: one common picture, and a part of its own for each."""
    noise = torch.rand(count + 1, 1, 4, 4, generator=stream(seed, "films"))
    fields = torch.nn.functional.interpolate(noise, size=(16, 16), mode="bicubic").clamp(0, 1)
    return (0.5 * fields[:1] + 0.5 * fields[1:]).clamp(0, 1)


@pytest.fixture(scope="module")
def lenet():
    import gradiograph.tasks  # noqa: F401 - registers the tasks

    return build("task", {"use": "lenet"}, (1, 16, 16), 3)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_summands_of_subset_sums_are_found(count):
    generator = stream(count, "summands")
    summands = (
        torch.rand(count, 300, generator=generator) * torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)[:, None]
    )
    masks = (torch.rand(64, count, generator=generator) < 0.5).float()
    masks[:20] = 1
    scale = torch.randn(64, generator=generator)
    found, explained = find_summands(scale[:, None] * (masks @ summands), scale, count)
    assert explained == count
    similar = torch.nn.functional.cosine_similarity(found[:, None], summands, dim=2)
    assert sorted(similar.argmax(dim=1).tolist()) == list(range(count))
    torch.testing.assert_close(found, summands[similar.argmax(dim=1)], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("protocol", [FedSGD(), FedAvg(local_steps=3, learning_rate=1e-4)], ids=["fedsgd", "fedavg"])
def test_a_batch_is_read_back_without_its_labels(lenet, protocol):
    films = Batch(smooth_films(3, 5), torch.tensor([0, 1, 0]))
    observation = observe(lenet, films, protocol, knows_labels=False)
    found = MaskDifferencing(steps=400)(observation, stream(0), ignore)
    assert found.flags == ()
    order = match(found.images, films.images)
    errors = (found.images[order] - films.images).square().flatten(1).mean(dim=1)
    alike = (films.images.mean(dim=0) - films.images).square().flatten(1).mean(dim=1)
    assert (errors < 0.1 * alike).all(), (errors, alike)
    assert found.targets[order].tolist() == films.targets.tolist()


def test_one_film_is_read_back(lenet):
    film = Batch(smooth_films(1, 6), torch.tensor([1]))
    found = MaskDifferencing(steps=300)(observe(lenet, film, FedSGD()), stream(0), ignore)
    assert (found.images - film.images).square().mean() < 1e-3
    assert found.targets.tolist() == [1]


def test_films_that_no_mask_tells_apart_are_flagged(lenet):
    films = smooth_films(1, 7).expand(2, -1, -1, -1)
    same = Batch(films, torch.tensor([0, 0]))
    assert MaskDifferencing(steps=2)(observe(lenet, same, FedSGD()), stream(0), ignore).flags == ("partial",)


def test_a_model_without_the_layers_is_refused_before_anything_runs():
    three = build("task", {"use": "lenet", "num_classes": 3}, (1, 16, 16), 0)
    head_only = build("task", {"use": "lenet", "trainable": "head"}, (1, 16, 16), 0)
    for task in (three, head_only):
        with pytest.raises(BadSetting, match="mask_differencing needs"):
            MaskDifferencing().check(task)
    assert module.dense_and_head(build("task", {"use": "lenet"}, (1, 16, 16), 0))
