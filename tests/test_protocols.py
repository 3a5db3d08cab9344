import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from gradiograph.core.errors import BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.protocols.augmentation import augment


def cross_entropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def make_task(*, norm=False, mode="train"):
    with global_stream(0, "test"):
        layers = [
            nn.Conv2d(1, 4, 3, bias=not norm),
            *([nn.BatchNorm2d(4)] if norm else []),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(144, 2),
        ]
        model = nn.Sequential(*layers)
    return Task(
        name="tiny",
        model=model,
        loss=cross_entropy,
        image_shape=(1, 8, 8),
        num_classes=2,
        mode=mode,
        trainable=tuple(name for name, _ in model.named_parameters()),
    )


def make_batch(size=4):
    return Batch(torch.rand(size, 1, 8, 8, generator=stream(1, "images")), torch.arange(size) % 2)


def train_with_torch(task, batch, optimiser, schedule):
    """Local training by torch's own optimisers and modules."""
    model = task.model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    state = task.state()
    optimiser = optimiser(model.parameters())
    for indices in schedule:
        optimiser.zero_grad()
        cross_entropy(model(batch.images[indices]), batch.targets[indices]).mean().backward()
        optimiser.step()
    delta = {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
    model.load_state_dict(state)
    return delta


@pytest.mark.parametrize(
    ("protocol", "optimiser"),
    [
        (FedAvg(local_steps=3, learning_rate=0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (
            FedAvg(local_steps=4, learning_rate=0.1, momentum=0.9, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        ),
        (
            FedAvg(local_steps=4, learning_rate=0.01, optimiser="adamw", weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
        ),
        (FedAvg(local_epochs=2, learning_rate=0.1, batch_size=2), lambda p: torch.optim.SGD(p, 0.1)),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_local_training_equals_torch(protocol, optimiser, norm):
    task, batch = make_task(norm=norm), make_batch()
    sizes = [range(4)] if protocol.batch_size is None else [range(2), range(2, 4)]
    steps = [list(sizes[i % len(sizes)]) for i in range(protocol.num_steps(4))]
    expected = train_with_torch(task, batch, optimiser, steps)
    found = protocol.local_update(task, task.state(), batch, None)
    for name, delta in expected.items():
        torch.testing.assert_close(found.tensors[name], delta, rtol=1e-4, atol=1e-6)


def test_fedsgd_is_one_step_of_fedavg_by_its_gradient():
    task, batch = make_task(), make_batch()
    gradient = FedSGD().local_update(task, task.state(), batch, None).tensors
    delta = FedAvg(local_steps=1, learning_rate=0.5).local_update(task, task.state(), batch, None).tensors
    for name in gradient:
        torch.testing.assert_close(delta[name], -0.5 * gradient[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "protocol",
    [
        FedSGD(),
        FedAvg(local_steps=3, learning_rate=0.1, momentum=0.5),
        FedAvg(local_steps=2, learning_rate=0.01, optimiser="adamw"),
    ],
)
def test_replay_is_differentiable_and_right(protocol):
    task = make_task()
    weights = {name: tensor.double() for name, tensor in task.state().items()}

    def replay(images):
        update = protocol.local_update(task, weights, Batch(images, torch.tensor([0, 1])), None, differentiable=True)
        return update.tensors["0.weight"].sum() + update.tensors["3.weight"][0, :5].sum()

    images = torch.rand(2, 1, 8, 8, generator=stream(2, "images"), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(replay(images), images)
    direction = torch.randn(images.shape, generator=stream(3, "direction"), dtype=torch.float64)
    numeric = (replay(images + 1e-5 * direction) - replay(images - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-4, atol=1e-9)


def test_dead_units_do_not_poison_the_replay_of_adamw():
    task = make_task()
    images = torch.zeros(2, 1, 8, 8, requires_grad=True)
    update = FedAvg(local_steps=2, learning_rate=0.01, optimiser="adamw").local_update(
        task, task.state(), Batch(images, torch.tensor([0, 1])), None, differentiable=True
    )
    (gradient,) = torch.autograd.grad(sum(t.square().sum() for t in update.tensors.values()), images)
    assert gradient.isfinite().all()


def test_buffers_are_reported_and_the_state_is_untouched():
    task, batch = make_task(norm=True), make_batch()
    state = task.state()
    copy = {name: tensor.clone() for name, tensor in state.items()}
    update = FedAvg(local_steps=2, learning_rate=0.1).local_update(task, state, batch, None)
    assert set(update.buffers) == {"1.running_mean", "1.running_var"}
    assert all(change.abs().max() > 0 for change in update.buffers.values())
    assert all(torch.equal(state[name], copy[name]) for name in state)
    assert all(torch.equal(task.model.state_dict()[name], copy[name]) for name in state)
    frozen = make_task(norm=True, mode="eval")
    assert all(
        change.abs().max() == 0
        for change in FedSGD().local_update(frozen, frozen.state(), batch, None).buffers.values()
    )


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 9), batch_size=st.integers(1, 9), epochs=st.integers(1, 3))
def test_every_epoch_sees_every_image_once(size, batch_size, epochs):
    protocol = FedAvg(local_epochs=epochs, learning_rate=0.1, batch_size=min(size, batch_size))
    schedule = protocol._mini_batches(size, stream(0, "order"))
    seen = [index for _ in range(protocol.num_steps(size)) for index in next(schedule).tolist()]
    assert len(seen) == size * epochs
    assert all(sorted(seen[i * size : (i + 1) * size]) == list(range(size)) for i in range(epochs))


def test_the_clients_order_is_its_own():
    task, batch = make_task(), make_batch(6)
    protocol = FedAvg(local_epochs=1, learning_rate=0.5, batch_size=2)
    one, same, other = (
        protocol.local_update(task, task.state(), batch, stream(seed, "client")).tensors["3.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_augmentation_moves_but_keeps_the_range():
    images = make_batch().images
    for kind in ("flip", "shift", "rotate"):
        moved = augment(images, (kind,), stream(5, "augment"))
        assert moved.shape == images.shape
        assert not torch.allclose(moved, images)
        assert moved.min() >= 0
        assert moved.max() <= 1
    torch.testing.assert_close(augment(images, (), stream(5, "augment")), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning_rate": 0.1}, "either local_steps or local_epochs"),
        ({"learning_rate": 0.1, "local_steps": 1, "local_epochs": 1}, "either local_steps or local_epochs"),
        ({"learning_rate": -1.0, "local_steps": 1}, "learning_rate = -1.0"),
        ({"learning_rate": 0.1, "local_step": 1}, "Did you mean 'local_steps'"),
        ({"learning_rate": 0.1, "local_steps": 1, "optimiser": "adamw", "momentum": 0.9}, "momentum = 0.9"),
    ],
)
def test_wrong_settings_are_refused(wrong, words):
    with pytest.raises(BadSetting, match=words):
        build("protocol", {"use": "fedavg", **wrong})


def test_a_client_with_fewer_images_than_a_mini_batch_takes_all_in_every_step():
    task, batch = make_task(), make_batch()
    few = FedAvg(local_epochs=2, learning_rate=0.1, batch_size=8)
    whole = FedAvg(local_steps=2, learning_rate=0.1)
    assert few.num_steps(len(batch)) == 2
    assert few.sample_rate(len(batch)) == 1
    updates = [p.local_update(task, task.state(), batch, None).tensors for p in (few, whole)]
    assert all(torch.equal(updates[0][name], updates[1][name]) for name in updates[1])


def test_the_tiny_task_matches_functional_call():
    task, batch = make_task(), make_batch()
    assert torch.equal(
        task.forward(task.state(), batch.images), functional_call(task.model, task.state(), (batch.images,))
    )
