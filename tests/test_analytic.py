import pytest
import torch
from torch import nn

from attack_observations import ignore, observe, per_example
from gradiograph.attacks.analytic import Analytic
from gradiograph.attacks.dense_layer import first_dense_layer
from gradiograph.attacks.input_scale import input_scales
from gradiograph.attacks.pure_units import pure_rows
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.metrics import match
from gradiograph.protocols import FedAvg, FedSGD

SIDE = 16


def films(count, seed=0):
    small = torch.rand(count, 1, 4, 4, generator=stream(seed, "films"))
    return nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")


def task_of(*layers, classes, trainable=None):
    with global_stream(1, "weights"):
        model = nn.Sequential(*(layer() for layer in layers))
    return Task(
        name="own",
        model=model,
        loss=per_example,
        image_shape=(1, SIDE, SIDE),
        num_classes=classes,
        mode="train",
        trainable=trainable or tuple(name for name, _ in model.named_parameters()),
    )


def dense_task(classes=3, units=64, bias=True, activation=nn.ReLU):
    return task_of(
        nn.Flatten,
        lambda: nn.Linear(SIDE**2, units, bias=bias),
        activation,
        lambda: nn.Linear(units, classes, bias=bias),
        classes=classes,
    )


def convolutional_task(classes=3, bias=True):
    return task_of(
        lambda: nn.Conv2d(1, 24, 5, padding=2),
        nn.ReLU,
        lambda: nn.MaxPool2d(2),
        nn.Flatten,
        lambda: nn.Linear(24 * SIDE**2 // 4, 96, bias=bias),
        nn.ReLU,
        lambda: nn.Linear(96, classes, bias=bias),
        classes=classes,
    )


def attack(task, images, labels, protocol=None, **settings):
    observation = observe(task, Batch(images, torch.tensor(labels)), protocol, knows_labels=False)
    return Analytic(**settings)(observation, stream(0, "attack"), ignore)


def psnr(found, truth):
    return float(-10 * torch.log10((found - truth).square().mean()))


@pytest.mark.parametrize("protocol", [FedSGD(), FedAvg(local_steps=1, learning_rate=0.1)], ids=["fedsgd", "fedavg"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_dense_first_layer_gives_its_image_exactly(protocol, bias, activation):
    truth = films(1)
    found = attack(dense_task(bias=bias, activation=activation), truth, [2], protocol)
    torch.testing.assert_close(found.images, truth, atol=1e-4, rtol=0)
    assert found.flags == ()
    assert bias or found.targets.tolist() == [2]


def test_several_local_steps_are_flagged_and_hardly_hurt():
    truth = films(1)
    for bias in (True, False):
        found = attack(dense_task(bias=bias), truth, [0], FedAvg(local_steps=5, learning_rate=1e-3))
        assert found.flags == ("approximate",)
        assert psnr(found.images, truth) > 40


@pytest.mark.parametrize("bias", [True, False])
def test_features_are_inverted_to_the_film(bias):
    truth = films(1)
    found = attack(convolutional_task(bias=bias), truth, [1])
    assert psnr(found.images, truth) > 40
    assert found.objective[-1] < 1e-4 * found.objective[0]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_batch_is_unmixed_by_the_units_that_fire_for_one_film(classes):
    truth = (films(3) - films(3).mean(dim=0) * 0.9).clamp(0, 1)
    found = attack(dense_task(classes, units=256), truth, [0, 1, 1])
    assert found.flags == ()
    torch.testing.assert_close(found.images[match(found.images, truth)], truth, atol=2e-3, rtol=0)


def test_films_that_every_unit_mixes_are_flagged_not_invented():
    truth = films(2)
    found = attack(dense_task(activation=nn.Sigmoid), truth, [0, 1])
    assert found.flags == ("partial",)
    assert torch.equal(found.images[0], found.images[1])


def test_one_of_two_films_is_found_where_only_it_has_units_of_its_own():
    first, second = torch.eye(5)[:1], torch.eye(5)[1:2]
    rows = torch.cat([first, 2 * first, -3 * first, 0.3 * first + second, first - second, 0.1 * first + 2 * second])
    found = pure_rows(rows, 2, 1e-6)
    assert found.shape == (1, 5)
    torch.testing.assert_close(found[0] / found[0].norm(), -first[0])
    near = torch.cat([rows, first + 2 * second, first + (2 + 1e-7) * second])  # agree by chance; in the span of others
    assert len(pure_rows(torch.cat([near, second, -second]), 2, 1e-6)) == 2
    assert len(pure_rows(torch.cat([first + second] * 4), 2, 1e-6)) == 0  # one direction only: a mixture


def test_every_length_that_explains_a_gradient_is_found():
    # c * sigmoid(-c) has the value 0.2 twice: a short input, and a long one whose image is classified well.
    left = torch.tensor([0.2], dtype=torch.float64)
    found = sorted(c for c, _ in input_scales(lambda c: torch.sigmoid(-c)[:, None], left, 1.0, (1.0,)))
    assert len(found) == 2
    for c in found:
        assert abs(c * torch.sigmoid(torch.tensor(-c)) - 0.2) < 1e-5


def test_models_without_such_a_layer_are_refused():
    pooled = (lambda: nn.Conv2d(1, 2, 3), lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten)
    frozen = task_of(nn.Flatten, lambda: nn.Linear(SIDE**2, 2), classes=2, trainable=("1.bias",))
    tokens = task_of(lambda: nn.Linear(SIDE, 2), nn.Flatten, lambda: nn.Unflatten(1, (2, SIDE)), classes=2)
    for task in (task_of(*pooled, classes=2), frozen, tokens):
        with pytest.raises(BadSetting, match="needs a trained dense layer"):
            Analytic().check(task)
    assert first_dense_layer(dense_task()) == "1.weight"


def test_an_update_of_zeros_is_refused():
    task = dense_task()
    with torch.no_grad():
        task.model[1].bias.fill_(-100.0)  # no unit fires
    with pytest.raises(BadSetting, match=r"'1.weight' of task 'own' is zero everywhere"):
        attack(task, films(1), [0])


def test_a_batch_without_a_bias_is_refused():
    with pytest.raises(BadSetting, match=r"2 images only from a dense layer whose bias trains.*mask_differencing"):
        attack(dense_task(bias=False), films(2), [0, 1])
