"""What a protocol promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradiograph.core.protocol import Protocol
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.testing import specimens
from gradiograph.testing.contract import (
    assert_frozen,
    assert_like,
    assert_same,
    clone,
    global_randomness_untouched,
    run_checks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = 4


def check_protocol(build: Callable[[], Protocol]) -> None:
    """Check one client's round on four images: layout, determinism, the differentiable replay.

    Args:
        build: Makes the protocol; its mini-batches hold at most four images.

    Raises:
        ContractBroken: a promise is broken.
    """
    protocol = build()
    run_checks(protocol, _CHECKS, type(protocol).__name__)


def _is_frozen(protocol: Protocol) -> None:
    """It is a `Protocol` and a frozen dataclass."""
    assert isinstance(protocol, Protocol), f"{type(protocol).__name__} is no Protocol"
    assert_frozen(protocol)


def _describes_itself(protocol: Protocol) -> None:
    """It states its kind, a positive step size and at least one step; a gradient has step size 1 and one step."""
    steps = protocol.num_steps(_SIZE)
    assert protocol.kind in ("gradient", "delta"), f"kind = {protocol.kind!r}"
    assert protocol.step_size > 0, f"step_size = {protocol.step_size}"
    assert steps >= 1, f"num_steps = {steps}"
    assert isinstance(protocol.augments, bool), f"augments = {protocol.augments!r}"
    if protocol.kind == "gradient":
        found = (protocol.step_size, steps)
        assert found == (1.0, 1), f"step_size and num_steps of a gradient are {found}"


def _layout(protocol: Protocol) -> None:
    """The update has the trainable parameters' names and shapes, is finite, and carries no graph."""
    task = specimens.task()
    state = task.state()
    update = protocol.local_update(task, state, specimens.batch(_SIZE), stream(0, "client"))
    assert_like({name: state[name] for name in task.trainable}, update.tensors, "update")
    attached = [name for name, tensor in {**update.tensors, **update.buffers}.items() if tensor.requires_grad]
    assert not attached, f"requires_grad is set on {attached}: the graph leads to the images"


def _keeps_input(protocol: Protocol) -> None:
    """State, images and the task's model are not changed."""
    task, batch = specimens.task(), specimens.batch(_SIZE)
    state = task.state()
    before, images = clone(state), batch.images.clone()
    protocol.local_update(task, state, batch, stream(0, "client"))
    assert_same(before, state, "the state")
    assert_same(before, task.model.state_dict(), "the model")
    assert torch.equal(images, batch.images), "the images changed"


def _is_deterministic(protocol: Protocol) -> None:
    """The same generator gives the same update, and no other randomness is used."""
    task, batch = specimens.task(), specimens.batch(_SIZE)
    with global_randomness_untouched():
        first, second = (protocol.local_update(task, task.state(), batch, stream(3, "client")) for _ in range(2))
    assert_same(first.tensors, second.tensors, "two runs")


def _replays(protocol: Protocol) -> None:
    """The attacker's replay draws nothing and has a finite gradient, not zero, with respect to the images."""
    task, batch = specimens.task(), specimens.batch(_SIZE)
    images = batch.images.requires_grad_()
    with global_randomness_untouched():
        update = protocol.local_update(
            task, task.state(), Batch(images, batch.targets), None, differentiable=True
        ).tensors
    size = torch.stack([tensor.square().sum() for tensor in update.values()]).sum()
    (flow,) = torch.autograd.grad(size, images)
    assert bool(torch.isfinite(flow).all()), "the gradient is not finite"
    assert bool(flow.any()), "the gradient is zero"


def _replay_is_the_same_code(protocol: Protocol) -> None:
    """The replay has the same values with and without a graph."""
    task, batch = specimens.task(), specimens.batch(_SIZE)
    plain = protocol.local_update(task, task.state(), batch, None)
    graph = protocol.local_update(task, task.state(), batch, None, differentiable=True)
    for name, tensor in plain.tensors.items():
        assert torch.allclose(tensor, graph.tensors[name], atol=1e-6), f"'{name}' differs"


_CHECKS = (
    _is_frozen,
    _describes_itself,
    _layout,
    _keeps_input,
    _is_deterministic,
    _replays,
    _replay_is_the_same_code,
)
