from itertools import pairwise

import pytest
import torch
from torch import nn

from attack_observations import ignore, observe, per_example
from gradiograph.attacks.r_gap import RGap
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg, FedSGD

SIDE = 12


def film(channels=1):
    small = torch.rand(1, channels, 4, 4, generator=stream(0, "film"))
    return nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")


def leaky():
    return nn.LeakyReLU(0.2)


def task_of(model, classes=2, channels=1, loss=per_example, trainable=None):
    return Task(
        name="own",
        model=model,
        loss=loss,
        image_shape=(channels, SIDE, SIDE),
        num_classes=classes,
        mode="train",
        trainable=trainable or tuple(name for name, _ in model.named_parameters()),
    )


def chain(*widths, activation=leaky, bias=True, outputs=2, **task):
    """Convolutions of stride 2 and a dense layer; the widths begin with the image's channels."""
    with global_stream(0, "weights"):
        layers = []
        for into, out in pairwise(widths):
            layers += [nn.Conv2d(into, out, 3, stride=2, padding=1, bias=bias), activation()]
        side = SIDE // 2 ** (len(widths) - 1)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * side**2, outputs, bias=bias)]
        return task_of(nn.Sequential(*layers), channels=widths[0], **task)


def attack(task, image, label=1, protocol=None, **threat):
    observation = observe(task, Batch(image, torch.tensor([label])), protocol, **{"knows_labels": False, **threat})
    return RGap()(observation, stream(0, "attack"), ignore)


def psnr(found, truth):
    return float(-10 * torch.log10((found - truth).square().mean() + 1e-12))


@pytest.mark.parametrize("activation", [leaky, nn.Sigmoid, nn.Tanh], ids=["leaky", "sigmoid", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_film_is_solved_for(activation, bias, classes):
    found = attack(chain(1, 6, 12, activation=activation, bias=bias, outputs=classes, classes=classes), film())
    assert psnr(found.images, film()) > 60
    assert found.flags == ()
    assert max(found.objective) < 1e-4
    assert bias or found.targets.tolist() == [1]


def test_a_colour_image_from_one_step_of_fedavg():
    truth = film(3)
    found = attack(chain(3, 12, 24), truth, protocol=FedAvg(local_steps=1, learning_rate=0.01))
    assert psnr(found.images, truth) > 40


def test_zeros_of_a_relu_are_left_out_of_the_system():
    found = attack(chain(1, 8, 16, activation=nn.ReLU), film())
    assert psnr(found.images, film()) > 60


def test_a_hidden_dense_layer_is_part_of_the_chain():
    with global_stream(0, "weights"):
        model = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Sigmoid()),
            nn.Flatten(),
            nn.Linear(8 * SIDE**2 // 4, 20),
            nn.Tanh(),
            nn.Linear(20, 2),
        )
    assert psnr(attack(task_of(model), film()).images, film()) > 60


def test_one_logit_with_the_binary_loss():
    def binary(outputs, targets):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs), reduction="none")

    for bias in (True, False):
        found = attack(chain(1, 6, 12, bias=bias, outputs=1, loss=binary), film())
        assert psnr(found.images, film()) > 60


def test_a_narrow_layer_does_not_determine_its_input():
    found = attack(chain(1, 2, 2), film())
    assert "rank deficient" in found.flags


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            (nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 2)),
            "'1' .MaxPool2d.*told from its output",
        ),
        ((nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 2)), "BatchNorm2d"),
        ((nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.0), nn.Flatten(), nn.Linear(400, 2)), "slope 0.0 has no inverse"),
        ((nn.Conv2d(1, 4, 3, dilation=2), nn.Flatten(), nn.Linear(256, 2)), "dilation = 1"),
        ((nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 2)), "does not follow a convolution"),
        ((nn.Conv2d(1, 2, 12), nn.Flatten()), "does not end in one"),
        ((nn.Flatten(), nn.Linear(144, 2), nn.Sigmoid()), "does not end in one"),
    ],
)
def test_models_that_cannot_be_solved_are_refused(layers, reason):
    with pytest.raises(BadSetting, match=reason):
        RGap().check(task_of(nn.Sequential(*layers)))


def test_frozen_weights_and_large_images_are_refused():
    with pytest.raises(BadSetting, match=r"'0'.*does not train"):
        RGap().check(chain(1, 2, trainable=("3.weight",)))
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(128**2, 2))
    large = Task(
        name="large",
        model=model,
        loss=per_example,
        image_shape=(1, 128, 128),
        num_classes=2,
        mode="train",
        trainable=tuple(name for name, _ in model.named_parameters()),
    )
    with pytest.raises(BadSetting, match="has 16384, allowed are 8192"):
        RGap().check(large)


def test_batches_and_several_steps_are_refused():
    task = chain(1, 4)
    with pytest.raises(BadSetting, match="1 images and 2 local steps"):
        attack(task, film(), protocol=FedAvg(local_steps=2, learning_rate=0.1))
    two = Batch(film().expand(2, -1, -1, -1), torch.tensor([0, 1]))
    with pytest.raises(BadSetting, match="2 images and 1 local steps"):
        RGap()(observe(task, two, FedSGD()), stream(0), ignore)
