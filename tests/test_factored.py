import pytest
import torch
from torch import nn

from gradiograph.core.factored import FactoredTensors, OuterSum, factorable, factors, inner, scaled
from gradiograph.core.random import global_stream, stream
from gradiograph.core.task import Task, factored_shifts, mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg, FedSGD


def cross_entropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Tied(nn.Module):
    """A dense weight used twice: its gradient is not one sum of outer products."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(100, 100)
        self.head = nn.Linear(100, 2)

    def forward(self, images):
        return self.head(self.dense(self.dense(self.flatten(images)).tanh()))


def make_task(model=None):
    with global_stream(0, "test"):
        model = model or nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(256, 120),
            nn.Tanh(),
            nn.Linear(120, 2, bias=False),
        )
    names = tuple(name for name, _ in model.named_parameters())
    return Task(
        name="t", model=model, loss=cross_entropy, image_shape=(1, 10, 10), num_classes=2, mode="eval", trainable=names
    )


def make_batch(size=2):
    return Batch(torch.rand(size, 1, 10, 10, generator=stream(1, "images")), torch.arange(size) % 2)


def test_a_wide_dense_layer_is_kept_as_factors_and_a_tied_one_is_not():
    task, batch = make_task(), make_batch()
    assert factorable(task.model, task.state(), batch.images, 2) == ("3.weight",)
    assert factorable(task.model, task.state(), batch.images, 200) == ()
    tied = make_task(Tied())
    assert factorable(tied.model, tied.state(), batch.images, 2) == ()


def test_factors_are_found_where_no_gradient_is_kept():
    task, batch = make_task(), make_batch()
    with torch.no_grad():
        kept = FedAvg(local_steps=2, learning_rate=0.1).local_update(
            task, task.state(), batch, None, differentiable=True
        )
    assert isinstance(factors(kept.tensors, "3.weight"), OuterSum)
    assert not any(kept.tensors[name].requires_grad for name in kept.tensors)
    plain = FedAvg(local_steps=2, learning_rate=0.1).local_update(task, task.state(), batch, None)
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(kept.tensors[name], tensor, rtol=1e-4, atol=1e-7)


def test_the_gradient_and_its_factors_agree():
    task, batch = make_task(), make_batch()
    plain = mean_gradient(task, task.state(), batch)
    kept = mean_gradient(
        task, task.state(), batch, create_graph=True, shifts=factored_shifts(task, task.state(), batch, 1)
    )
    assert isinstance(factors(kept, "3.weight"), OuterSum)
    assert list(kept) == list(plain) == list(task.trainable)
    for name in plain:
        torch.testing.assert_close(kept[name].detach(), plain[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "protocol",
    [
        FedSGD(),
        FedAvg(local_steps=3, learning_rate=0.1),
        FedAvg(local_epochs=2, learning_rate=0.1, batch_size=2, momentum=0.9),
    ],
)
def test_the_factored_replay_equals_local_training_and_its_slope(protocol):
    task, batch = make_task(), make_batch(4)
    state = {name: tensor.double() for name, tensor in task.state().items()}
    truth = Batch(batch.images.double(), batch.targets)
    plain = protocol.local_update(task, state, truth, None).tensors
    images = truth.images.clone().requires_grad_()
    kept = protocol.local_update(task, state, Batch(images, batch.targets), None, differentiable=True).tensors
    assert isinstance(factors(kept, "3.weight"), OuterSum)
    for name in plain:
        torch.testing.assert_close(kept[name].detach(), plain[name], rtol=1e-9, atol=1e-12)
    from_factors = sum(inner(kept, plain, name) + inner(kept, kept, name) for name in plain)
    formed = sum((kept[name] * plain[name]).sum() + kept[name].square().sum() for name in plain)
    torch.testing.assert_close(from_factors, formed)
    (slope,) = torch.autograd.grad(from_factors, images, retain_graph=True)
    (dense_slope,) = torch.autograd.grad(formed, images)
    torch.testing.assert_close(slope, dense_slope)


def test_scaled_keeps_factors():
    kept = FactoredTensors({"w": OuterSum(torch.ones(2, 3), torch.ones(2, 4)), "b": torch.ones(3)})
    twice = scaled(kept, 2.0)
    assert isinstance(factors(twice, "w"), OuterSum)
    assert torch.equal(twice["w"], torch.full((3, 4), 4.0))
    assert torch.equal(twice["b"], torch.full((3,), 2.0))


def test_arithmetic_is_that_of_matrices():
    def draw(*shape):
        return torch.randn(*shape, generator=stream(sum(shape)), dtype=torch.float64)

    one, two = OuterSum(draw(2, 3), draw(2, 5)), OuterSum(draw(4, 3), draw(4, 5))
    torch.testing.assert_close((one - 0.5 * two).dense(), one.dense() - 0.5 * two.dense())
    inputs = draw(7, 5)
    torch.testing.assert_close(one.apply(inputs), inputs @ one.dense().T)
    assert OuterSum.zero(draw(3, 5)).dense().abs().max() == 0


def test_inner_product_of_many_values_is_exact_to_float32():
    values = 1e-6 * torch.randn(2**22, generator=stream(3))
    expected = values.double().square().sum()
    torch.testing.assert_close(inner({"w": values}, {"w": values}, "w").double(), expected, rtol=1e-6, atol=0)
