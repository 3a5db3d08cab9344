"""What a task promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch.nn import functional as F

from gradiograph.core.task import Task, copy_buffers, mean_gradient
from gradiograph.core.tensors import Batch
from gradiograph.testing import specimens
from gradiograph.testing.contract import assert_frozen, assert_same, clone, global_randomness_untouched, run_checks


def check_task(build: Callable[[], Task], *, batch_size: int = 2) -> None:
    """Check a task: outputs, loss, the gradient and the gradient's gradient, that nothing is changed.

    Args:
        build: Makes the task, the same one each time.
        batch_size: Images in a batch; at least 2.

    Raises:
        ContractBroken: a promise is broken.
    """
    task = build()
    run_checks(_Trial(task=task, build=build, batch_size=batch_size), _CHECKS, f"task '{task.name}'")


@dataclass(frozen=True, kw_only=True)
class _Trial:
    task: Task
    build: Callable[[], Task]
    batch_size: int

    @property
    def batch(self) -> Batch:
        batch = specimens.batch(self.batch_size, self.task.image_shape)
        places = torch.arange(self.batch_size * prod(self.task.target_shape))
        targets = places.reshape(self.batch_size, *self.task.target_shape) % self.task.num_classes
        return Batch(batch.images, targets)

    def state(self) -> dict[str, torch.Tensor]:
        return self.task.state()


def _is_frozen(trial: _Trial) -> None:
    """It is a `Task`, and its model is in the stated mode."""
    assert isinstance(trial.task, Task), f"{type(trial.task).__name__} is no Task"
    assert_frozen(trial.task)
    assert trial.task.model.training == (trial.task.mode == "train"), "the model is in the other mode"


def _trainable(trial: _Trial) -> None:
    """At least one parameter trains, and all that train are parameters of the model."""
    names = {name for name, _ in trial.task.model.named_parameters()}
    assert trial.task.trainable, "no parameter trains"
    strangers = set(trial.task.trainable) - names
    assert not strangers, f"{sorted(strangers)} are no parameters of the model"
    assert len(set(trial.task.trainable)) == len(trial.task.trainable), "a name is given twice"


def _outputs(trial: _Trial) -> None:
    """The model maps (B, C, *spatial) to finite (B, K), or to (B, K, *spatial) where it segments."""
    outputs = trial.task.forward(trial.state(), trial.batch.images)
    shape = (trial.batch_size, trial.task.num_classes, *trial.task.target_shape)
    assert outputs.shape == shape, f"outputs have shape {tuple(outputs.shape)}, expected {shape}"
    assert bool(torch.isfinite(outputs).all()), "outputs are not finite"


def _loss(trial: _Trial) -> None:
    """The loss is one finite value per example, the same for a label and for its one-hot probabilities."""
    batch = trial.batch
    outputs = trial.task.forward(trial.state(), batch.images)
    hard = trial.task.loss(outputs, batch.targets)
    soft = trial.task.loss(outputs, _one_hot(trial, batch.targets).to(outputs.dtype))
    assert hard.shape == (trial.batch_size,), f"the loss has shape {tuple(hard.shape)}, expected ({trial.batch_size},)"
    assert bool(torch.isfinite(hard).all()), "the loss is not finite"
    assert torch.allclose(hard, soft, atol=1e-5), f"labels give {hard.tolist()}, one-hot {soft.tolist()}"


def _one_hot(trial: _Trial, targets: torch.Tensor) -> torch.Tensor:
    return F.one_hot(targets, trial.task.num_classes).movedim(-1, 1)


def _gradient(trial: _Trial) -> None:
    """The mean gradient is finite and not zero, by the names that train."""
    gradient = mean_gradient(trial.task, trial.state(), trial.batch)
    assert tuple(gradient) == trial.task.trainable, "names differ from `trainable`"
    assert all(bool(torch.isfinite(tensor).all()) for tensor in gradient.values()), "the gradient is not finite"
    assert any(bool(tensor.any()) for tensor in gradient.values()), "the gradient is zero"


def _second_order(trial: _Trial) -> None:
    """The gradient has a finite gradient, not zero, with respect to the images: an attack follows it."""
    batch = trial.batch
    images = batch.images.requires_grad_()
    gradient = mean_gradient(trial.task, trial.state(), Batch(images, batch.targets), create_graph=True)
    size = torch.stack([tensor.square().sum() for tensor in gradient.values()]).sum()
    (flow,) = torch.autograd.grad(size, images)
    assert bool(torch.isfinite(flow).all()), "it is not finite"
    assert bool(flow.any()), "it is zero"


def _keeps_model(trial: _Trial) -> None:
    """A forward pass and a gradient change neither the model nor the images; buffers only in the state passed in."""
    task, batch, state = trial.task, trial.batch, trial.state()
    before, images = clone(task.model.state_dict()), batch.images.clone()
    mean_gradient(task, {**state, **copy_buffers(task, state)}, batch)
    assert_same(before, task.model.state_dict(), "the model")
    assert_same(before, state, "the state passed in")
    assert torch.equal(images, batch.images), "the images changed"
    assert all(parameter.grad is None for parameter in task.model.parameters()), "gradients are left on the model"


def _is_deterministic(trial: _Trial) -> None:
    """Built twice it has the same weights, and torch's global generator is as before."""
    with global_randomness_untouched():
        other = trial.build()
    assert_same(trial.state(), other.state(), "two builds")


_CHECKS = (
    _is_frozen,
    _trainable,
    _outputs,
    _loss,
    _gradient,
    _second_order,
    _keeps_model,
    _is_deterministic,
)
