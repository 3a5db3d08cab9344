import pytest
import torch
from torch import nn

from attack_observations import ignore, observe, per_example
from gradiograph.attacks.relu_layer import ReluLayer, first_relu_layer
from gradiograph.attacks.sparse_columns import sparse_directions
from gradiograph.attacks.spear import Spear
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.data.phantom import phantom
from gradiograph.defences import GaussianNoise
from gradiograph.metrics import match
from gradiograph.protocols import FedAvg
from gradiograph.testing import check_attack


def task_of(model, side, classes, trainable=None):
    return Task(
        name="dense",
        model=model,
        loss=per_example,
        image_shape=(1, side, side),
        num_classes=classes,
        mode="train",
        trainable=trainable or tuple(name for name, _ in model.named_parameters()),
    )


def dense_task(*, bias=True, classes=2, side=16, width=256, activation=nn.ReLU, trainable=None):
    """A network whose first layer is dense on the pixels."""
    with global_stream(0, "dense task"):
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(side**2, width, bias=bias), activation(), nn.Linear(width, classes, bias=bias)
        )
    return task_of(model, side, classes, trainable)


def noise_films(count, side=16, classes=2):
    return Batch(torch.rand(count, 1, side, side, generator=stream(count, "films")), torch.arange(count) % classes)


def phantom_films(count, classes):
    films = torch.from_numpy(phantom(image_size=16, patients=10).read(list(range(count))))
    return Batch(films, torch.arange(count) % classes)


def psnr(found, private):
    """Of each film, in dB, in the private batch's order."""
    order = match(found.images, private.images)
    return -10 * (found.images[order] - private.images).square().flatten(1).mean(dim=1).log10(), order


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_batch_of_pixels_is_solved_for_without_its_labels(count, bias):
    private = noise_films(count, classes=10)
    task = dense_task(classes=10, width=512, bias=bias)
    found = Spear()(observe(task, private, knows_labels=False), stream(0), ignore)
    quality, order = psnr(found, private)
    assert found.flags == ()
    assert (quality > 60).all(), quality
    assert found.targets[order].tolist() == private.targets.tolist()


@pytest.mark.parametrize(("count", "classes"), [(4, 2), (6, 10)])
def test_films_that_are_alike_are_solved_for(count, classes):
    private = phantom_films(count, classes)
    found = Spear()(observe(dense_task(classes=classes, width=512), private), stream(0), ignore)
    assert found.flags == ()
    assert (psnr(found, private)[0] > 60).all()


def test_several_local_steps_on_the_pixels_keep_the_rank():
    private = noise_films(4, classes=10)
    protocol = FedAvg(local_steps=5, learning_rate=1e-2)
    found = Spear()(observe(dense_task(classes=10), private, protocol), stream(0), ignore)
    assert found.flags == ()
    assert (psnr(found, private)[0] > 60).all()


def test_features_are_solved_for_and_then_inverted():
    with global_stream(0, "features"):
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 10)
        )
    private = noise_films(3, classes=10)
    observation = observe(task_of(model, 16, 10), private, FedAvg(local_steps=2, learning_rate=1e-4))
    found = Spear(steps=300)(observation, stream(0), ignore)
    assert found.flags == ("approximate",)
    assert (psnr(found, private)[0] > 20).all(), psnr(found, private)[0]


def test_a_direction_is_found_among_rows_that_it_makes_zero():
    generator = stream(0, "sparse")
    columns = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    columns *= torch.rand(200, 5, generator=generator) < 0.5
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    *_, (share, found) = sparse_directions(columns @ torch.linalg.inv(mixing), 1e-12, generator, 4096)
    wanted = mixing / mixing.norm(dim=0)
    assert share == 1
    assert ((found[:5] @ wanted).abs().amax(dim=0) > 1 - 1e-9).all()


@pytest.mark.parametrize("snr", [1.0, 1e-2])
def test_a_noisy_update_is_flagged(snr):
    noise = Chain(stages=(GaussianNoise(snr=snr),))
    private = noise_films(4, classes=10)
    found = Spear(samples=4096)(observe(dense_task(classes=10), private, defence=noise), stream(0), ignore)
    assert found.flags == ("partial",)
    assert found.images.shape == private.images.shape
    assert found.targets is None


def test_equal_films_are_flagged():
    private = Batch(noise_films(1).images.expand(3, -1, -1, -1), torch.zeros(3, dtype=torch.int64))
    assert Spear(samples=4096)(observe(dense_task(), private), stream(0), ignore).flags == ("partial",)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (dense_task(activation=nn.Sigmoid), "followed by ReLU"),
        (dense_task(trainable=("3.weight", "3.bias")), "'1.weight', which task 'dense' does not train"),
        (dense_task(trainable=("1.weight", "3.weight")), "'1.bias', which task 'dense' does not train"),
    ],
    ids=["no-relu", "frozen", "frozen-bias"],
)
def test_a_model_without_the_layer_is_refused_before_anything_runs(task, reason):
    with pytest.raises(BadSetting, match=reason):
        Spear().check(task)


def test_a_batch_larger_than_the_layer_is_refused():
    observation = observe(dense_task(width=4), noise_films(5))
    with pytest.raises(BadSetting, match="at most as many films"):
        Spear()(observation, stream(0), ignore)


@pytest.mark.parametrize("functional", [True, False])
def test_the_first_layer_before_a_relu_is_the_one_read(functional):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 32), nn.Linear(32, 16, bias=False), nn.Linear(16, 2)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, images):
            hidden = self.second(torch.tanh(self.first(images.flatten(1))))
            return self.head(torch.relu(hidden) if functional else self.relu(hidden))

    layer = first_relu_layer(task_of(Net(), 8, 2))
    assert layer == ReluLayer(weight="second.weight", bias=None, sees_image=False)


def test_contract():
    check_attack(Spear, task=dense_task())
