"""What is trained: a model with its loss and the mode that its normalisation layers run in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradiograph.core.convolutions import ConvolutionCalls
from gradiograph.core.factored import DenseCalls, FactoredTensors, OuterSum, factorable

if TYPE_CHECKING:
    from gradiograph.core.tensors import Batch, Tensors

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its loss per example, and which of its parameters train.

    A classifier gives one answer an image; a task that segments gives one for each pixel, and its targets are masks.

    Attributes:
        name: The component's name.
        model: Called on images (B, C, *spatial) in [0, 1]; its own state is the weights that round 0 starts from.
            Always called through `forward` with a state, so it is never changed.
        loss: (outputs, targets) -> (B,), for int64 targets and for probabilities.
        image_shape: (C, *spatial).
        num_classes: K; where it segments, the structures with the background.
        mode: "train" or "eval": BatchNorm's mode decides what leaks, so it is always stated.
        trainable: Names of the parameters that train and so cross the wire.
        segments: Whether it gives K logits for each pixel: outputs are (B, K, *spatial), targets (B, *spatial).
        loss_mixes: Whether an image's loss depends on the others of its batch, as a Dice over the batch does.
    """

    name: str
    model: nn.Module
    loss: Loss
    image_shape: tuple[int, ...]
    num_classes: int
    mode: Literal["train", "eval"]
    trainable: tuple[str, ...]
    segments: bool = False
    loss_mixes: bool = False

    def __post_init__(self) -> None:
        self.model.train(self.mode == "train")

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of one image's target: () for a class, (*spatial) for a mask."""
        return self.image_shape[1:] if self.segments else ()

    def state(self) -> dict[str, Tensor]:
        """A detached copy of all parameters and buffers, by name."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def forward(self, state: Tensors, images: Tensor) -> Tensor:
        """The model's outputs (B, K), or (B, K, *spatial) where it segments, with the given state.

        In train mode the state's buffers change in place.
        """
        outputs: Tensor = functional_call(self.model, dict(state), (images,))
        return outputs


def copy_buffers(task: Task, state: Tensors) -> dict[str, Tensor]:
    """The state's buffers as copies that a forward pass in train mode may change in place."""
    return {name: state[name].clone() for name, _ in task.model.named_buffers()}


def buffer_change(state: Tensors, buffers: Tensors) -> dict[str, Tensor]:
    """What a round did to the floating-point buffers, such as BatchNorm's running statistics."""
    return {name: buffer - state[name] for name, buffer in buffers.items() if buffer.is_floating_point()}


def mean_gradient(
    task: Task,
    state: Tensors,
    batch: Batch,
    *,
    create_graph: bool = False,
    shifts: Mapping[str, OuterSum] | None = None,
) -> Tensors:
    """The gradient of the batch's mean loss with respect to the trainable parameters.

    Args:
        task: The model and loss.
        state: All parameters and buffers by name; buffers change in place in train mode.
        batch: Images (B, C, *spatial) and targets.
        create_graph: Keep the graph, so that the result can be differentiated with respect to the batch; not under
            `torch.no_grad`.
        shifts: Dense weights whose gradient is kept as factors, and what is added to each: see `core.factored`.

    Returns:
        By name, in the order of `task.trainable`; zeros for a parameter that the loss does not reach.
    """
    shifts = shifts or {}
    create_graph = create_graph and torch.is_grad_enabled()
    # A fresh node per parameter: a state in the middle of a replay is part of a graph that must stay whole.
    inputs = {
        name: state[name] if state[name].requires_grad else state[name].detach().requires_grad_()
        for name in task.trainable
        if name not in shifts
    }
    weights = {name: state[name].detach() for name in shifts}
    fixed = {name: tensor for name, tensor in inputs.items() if create_graph and not state[name].requires_grad}
    with torch.enable_grad():
        with DenseCalls(weights, shifts) as dense, ConvolutionCalls(fixed) as convolutions:
            outputs = task.forward({**state, **inputs, **weights}, batch.images)
        loss = task.loss(outputs, batch.targets).mean()
        dense_outputs = [dense.outputs[name][0] for name in shifts]
        places = [*dense_outputs, *(call.outputs for call in convolutions.calls)]
        gradients = torch.autograd.grad(
            loss, [*places, *inputs.values()], create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        slopes, rest = gradients[: len(shifts)], gradients[len(shifts) : len(places)]
        formed = convolutions.gradients(rest)
    found: dict[str, Tensor | OuterSum] = dict(zip(inputs, gradients[len(places) :], strict=True))
    # Added to what other uses of the weight give, mostly nothing; that of equal channels is broadcast to all of them.
    found |= {name: found[name] + gradient for name, gradient in formed.items()}
    found |= {name: dense.gradient(name, slope) for name, slope in zip(shifts, slopes, strict=True)}
    return FactoredTensors({name: found[name] for name in task.trainable})


def factored_shifts(task: Task, state: Tensors, batch: Batch, steps: int) -> dict[str, OuterSum]:
    """Zero shifts of the trainable dense weights that are worth keeping as factors over this many steps."""
    names = factorable(task.model, state, batch.images, len(batch) * steps)
    return {name: OuterSum.zero(state[name]) for name in names if name in task.trainable}
