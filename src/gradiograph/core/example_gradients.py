"""The gradient of each example's loss, and of each patient's: what a defence on examples clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gradiograph.core.errors import BadSetting
from gradiograph.core.task import mean_gradient
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

Unit = Literal["example", "patient"]


@dataclass(frozen=True, kw_only=True)
class ExampleGradients:
    """The gradients of U units side by side; a unit is an example or all examples of a patient.

    Attributes:
        tensors: (U, *shape) by parameter name.
    """

    tensors: Tensors

    def squared_norms(self) -> dict[str, Tensor]:
        """The squared norm of each unit's gradient, (U,) by parameter name."""
        return {name: tensor.flatten(1).square().sum(dim=1) for name, tensor in self.tensors.items()}

    def weighted_sum(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum over units of weight times gradient, from weights (U,) by parameter name."""
        return {name: torch.einsum("u,u...->...", weights[name], tensor) for name, tensor in self.tensors.items()}


def units(batch: Batch, unit: Unit) -> Tensor:
    """The unit of each image: int64 (B,), counted from 0.

    Args:
        batch: Images, with their patients where `unit` is "patient".
        unit: "example": every image by itself. "patient": all images of a patient together.

    Raises:
        BadSetting: the patients are asked for and not known.
    """
    if unit == "example":
        return torch.arange(len(batch))
    if batch.patients is None:
        msg = "unit = 'patient' needs to know whose image is whose, and these images do not say. Use unit = 'example'."
        raise BadSetting(msg)
    inverse: Tensor = torch.unique(batch.patients, return_inverse=True)[1]
    return inverse


def example_gradients(task: Task, state: Tensors, batch: Batch, *, create_graph: bool = False) -> ExampleGradients:
    """The gradient of each example's loss by itself.

    Args:
        task: Model and loss; no layer may mix the images of a batch, see `require_separate_examples`.
        state: All parameters and buffers by name; not changed.
        batch: B images and targets; B may be 0.
        create_graph: Keep the graph from the images to the result.
    """
    if not len(batch):
        return ExampleGradients(tensors={name: state[name].new_zeros(0, *state[name].shape) for name in task.trainable})
    if create_graph:
        alone = [
            mean_gradient(task, state, Batch(image[None], target[None]), create_graph=True)
            for image, target in zip(batch.images, batch.targets, strict=True)
        ]
        return ExampleGradients(tensors={n: torch.stack([found[n] for found in alone]) for n in task.trainable})
    weights = {name: state[name].detach() for name in task.trainable}
    rest = {name: tensor.detach() for name, tensor in state.items() if name not in weights}

    def loss(own: Tensors, image: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(task.model, {**rest, **own}, (image[None],))
        total: Tensor = task.loss(outputs, target[None]).sum()
        return total

    vectorised = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    return ExampleGradients(tensors=vectorised(weights, batch.images, batch.targets))


def merged(gradients: ExampleGradients, unit_of: Tensor) -> ExampleGradients:
    """The mean of the gradients of each unit's examples; those of units without an example are left out.

    Args:
        gradients: Of B examples.
        unit_of: int64 (B,), see `units`.
    """
    found, place = torch.unique(unit_of, return_inverse=True)
    if len(found) == len(unit_of):
        return gradients
    sizes = torch.bincount(place, minlength=len(found))
    tensors = {}
    for name, tensor in gradients.tensors.items():
        total = tensor.new_zeros(len(found), *tensor.shape[1:]).index_add(0, place, tensor)
        tensors[name] = total / sizes.to(tensor).view(-1, *[1] * (tensor.ndim - 1))
    return ExampleGradients(tensors=tensors)


def require_separate_examples(task: Task) -> None:
    """Refuse a task in which one image's gradient depends on the others of its batch.

    Raises:
        BadSetting: the model has BatchNorm in train mode, or the loss is one of the batch.
    """
    if task.loss_mixes:
        msg = (
            f"task '{task.name}': its loss is one number for the whole batch, such as a Dice over all pixels of all "
            "images. Each image's gradient then depends on the others, so that clipping it does not bound what one "
            "image changes. Use the form that is taken image by image: loss = 'dice' or 'dice_cross_entropy'."
        )
        raise BadSetting(msg)
    mixing = [n for n, layer in task.model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if mixing and task.mode == "train":
        msg = (
            f"task '{task.name}': '{mixing[0]}' is BatchNorm in train mode. It mixes the images of a batch, so that "
            "clipping one example's gradient does not bound what that example changes, and its running statistics "
            "leave without noise. Use a task with GroupNorm, such as 'small_cnn' or 'resnet18_groupnorm'."
        )
        raise BadSetting(msg)
