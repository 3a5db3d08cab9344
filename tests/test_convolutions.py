"""Convolutions past the weight, against plain automatic differentiation: values, gradients and second derivatives."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gradiograph.core.convolutions import ConvolutionCalls, are_equal_channels
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task, mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg

SHAPE = (3, 11, 10)


class Network(nn.Module):
    """All that a convolution can have; one weight is convolved twice and used once more besides."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), bias=False),
            nn.Tanh(),
            nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2),
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.Tanh(),
            nn.Conv2d(4, 4, 2, stride=2, padding_mode="circular", padding=1),
        )
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.LazyLinear(2)

    def forward(self, images):
        features = self.twice(self.twice(self.layers(images)).tanh()) * self.twice.weight.mean()
        return self.head(features.flatten(1))


@pytest.fixture
def task():
    with global_stream(0, "test"):
        model = Network()
        model(torch.zeros(1, *SHAPE))
    names = tuple(name for name, _ in model.named_parameters())
    model = model.double()
    return Task(
        name="t",
        model=model,
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
        image_shape=SHAPE,
        num_classes=2,
        mode="eval",
        trainable=names,
    )


def random_images(channels: int) -> torch.Tensor:
    return torch.rand(2, channels, *SHAPE[1:], generator=stream(1, "images"), dtype=torch.float64).requires_grad_()


def plain_gradient(task, images, labels):
    weights = {name: tensor.requires_grad_() for name, tensor in task.state().items()}
    loss = task.loss(torch.func.functional_call(task.model, weights, (images,)), labels).mean()
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    return dict(zip(weights, found, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_and_its_derivative_are_those_of_plain_differentiation(task, channels):
    latent, labels = random_images(channels), torch.tensor([0, 1])
    images = latent.expand(-1, 3, -1, -1)
    ours = mean_gradient(task, task.state(), Batch(images, labels), create_graph=True)
    theirs = plain_gradient(task, images, labels)
    assert list(ours) == list(theirs)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-12)
    directions = {name: torch.randn(gradient.shape, generator=stream(2, name)) for name, gradient in theirs.items()}
    slopes = [
        torch.autograd.grad(sum((found[name] * directions[name]).sum() for name in directions), [latent])[0]
        for found in (ours, theirs)
    ]
    assert slopes[1].abs().max() > 1e-6
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_replay_of_steps_whose_weights_are_in_the_graph(task, channels):
    latent, labels = random_images(channels), torch.tensor([0, 1])
    images = latent.expand(-1, 3, -1, -1)
    ours = FedAvg(local_steps=3, learning_rate=0.1).local_update(
        task, task.state(), Batch(images, labels), None, differentiable=True
    )
    weights = before = {name: tensor.requires_grad_() for name, tensor in task.state().items()}
    for _ in range(3):
        loss = task.loss(torch.func.functional_call(task.model, weights, (images,)), labels).mean()
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: weights[name] - 0.1 * slope for name, slope in zip(weights, found, strict=True)}
    theirs = {name: weights[name] - before[name] for name in weights}
    slopes = [
        torch.autograd.grad(sum(found[name].square().sum() for name in theirs), [latent])[0]
        for found in (ours.tensors, theirs)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-14)


class CountConvolutions(TorchDispatchMode):
    """Counts convolutions whose kernel is no weight: a slope, as in the derivative by a weight."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default and args[1].shape[2:] != (3, 3)
        return func(*args, **(kwargs or {}))


def test_second_derivative_by_a_weight_is_not_computed():
    weights = {name: torch.randn(2, 2, 3, 3, generator=stream(0, name)).requires_grad_() for name in ("first", "last")}
    images = torch.rand(1, 2, 9, 9, generator=stream(1)).requires_grad_()

    def last(features):
        return F.conv2d(F.conv2d(features, weights["first"]).tanh(), weights["last"]).square().sum()

    counts, slopes = [], []
    for ours in (True, False):
        with ConvolutionCalls(weights if ours else {}) as calls:
            loss = last(images)
        if ours:
            places = torch.autograd.grad(loss, [call.outputs for call in calls.calls], create_graph=True)
            gradients = tuple(calls.gradients(places).values())
        else:
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        with CountConvolutions() as counted:
            slopes += torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), [images])
        counts.append(counted.count)
    assert counts == [0, 1]
    torch.testing.assert_close(*slopes)


def test_one_picture_in_equal_channels_is_convolved_once():
    grey, weight = torch.rand(2, 1, 5, 5, generator=stream(0)), torch.randn(4, 3, 3, 3, generator=stream(1))
    with ConvolutionCalls({"w": weight}) as calls:
        outputs = F.conv2d(grey.expand(-1, 3, -1, -1), weight, padding=1)
    (call,) = calls.calls
    assert call.inputs.shape == (2, 1, 5, 5)
    torch.testing.assert_close(outputs, F.conv2d(grey.repeat(1, 3, 1, 1), weight, padding=1))


def test_channels_that_happen_to_be_equal_or_are_one_are_left_alone():
    grey = torch.rand(2, 1, 5, 5)
    assert are_equal_channels(grey.expand(-1, 3, -1, -1))
    assert not are_equal_channels(grey.repeat(1, 3, 1, 1))
    assert not are_equal_channels(grey)


def test_no_graph_is_kept_where_none_is_wanted(task):
    with torch.no_grad():
        gradient = mean_gradient(task, task.state(), Batch(random_images(3), torch.tensor([0, 1])), create_graph=True)
    assert not any(tensor.requires_grad for tensor in gradient.values())
