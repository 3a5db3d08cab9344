"""Labels from the gradient of the last dense layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from gradiograph.attacks.likelihoods import seen_update
from gradiograph.core.errors import BadSetting
from gradiograph.core.task import copy_buffers, mean_gradient
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors

NUM_DUMMIES = 16


def infer_labels(observation: Observation, generator: torch.Generator) -> Tensor:
    """How many images of each class lie behind an update, from the last dense layer's gradient.

    Under the cross entropy, row k of that gradient is the mean over the images of (p_k - y_k) times the features: each
    image of class k lowers its sum by its impact. For one image the only negative row is the label (Zhao et al. 2020,
    arXiv 2001.02610, section 3.1). For more, the classes with a negative row are present; each image found is taken off
    its class and the lowest class is named next, until all are (Wainakh et al. 2021, arXiv 2105.09369, algorithm 1).
    The impact and the offset that p_k alone makes are measured on uniform noise with labels of the attacker's choice,
    as in their LLG+; or, where the observation holds public films, on these with their own labels. A trained network
    answers films as it does not answer noise. A delta is divided by -learning_rate * steps first.

    Differs from the papers: both read the row sums of the weight's gradient, which needs non-negative features. Where
    the layer has a bias, its gradient is read in their place: its feature is 1, so that the impact is exactly 1 / B.

    Args:
        observation: What the server holds; its protocol is known.
        generator: Draws the noise images on the CPU.

    Returns:
        int64 (B,), ascending: the order within a batch leaves no trace in its gradient.

    Raises:
        BadSetting: the update has no dense layer with one output a class, or a class has no public film.
    """
    gradient, task, count = _gradient(observation), observation.task, observation.num_examples
    layer = _last_dense_layer(task, gradient)
    entries = _entries(gradient, layer)
    if count == 1:
        return entries.argmin().reshape(1)
    public, device = observation.public, entries.device
    if public is None:
        known = _on_noise(task, generator, device)
    else:
        known = _by_class(Batch(public.images.to(device), public.targets.to(device)), task.num_classes)
    offset, impact = _measure(observation, layer, known)
    return _count(entries, offset, impact / count, count)


def _entries(gradient: Tensors, layer: str) -> Tensor:
    """(K,): the bias's gradient, or the row sums of the weight's."""
    bias = gradient.get(f"{layer}bias")
    return gradient[f"{layer}weight"].sum(dim=1) if bias is None else bias


def _gradient(observation: Observation) -> Tensors:
    """The seen update as a gradient; the mean over the local steps for a delta."""
    seen, update = seen_update(observation), observation.rounds[0][1]
    if update.kind == "gradient":
        return seen
    scale = -(observation.local_learning_rate or 1.0) * (observation.local_steps or 1)
    return {name: tensor / scale for name, tensor in seen.items()}


def _last_dense_layer(task: Task, gradient: Tensors) -> str:
    """The prefix of its parameters' names, such as "classifier."."""
    prefixes = [
        f"{name}." if name else ""
        for name, module in task.model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == task.num_classes
    ]
    found = [prefix for prefix in prefixes if f"{prefix}weight" in gradient]
    if not found:
        msg = (
            f"Labels cannot be inferred: no dense layer with {task.num_classes} outputs is in the update. "
            'Grant threat.knows_labels, or choose an attack with labels = "joint".'
        )
        raise BadSetting(msg)
    return found[-1]


def _on_noise(task: Task, generator: torch.Generator, device: torch.device) -> list[Batch]:
    """The same noise as a batch of each class."""
    noise = torch.rand(NUM_DUMMIES, *task.image_shape, generator=generator).to(device)
    labels = [torch.full((NUM_DUMMIES,), label, device=device) for label in range(task.num_classes)]
    return [Batch(noise, of_class) for of_class in labels]


def _by_class(public: Batch, classes: int) -> list[Batch]:
    parts = [public.part(public.targets == label) for label in range(classes)]
    if not all(map(len, parts)):
        msg = f"Labels are measured on public films of each class; class {list(map(len, parts)).index(0)} has none."
        raise BadSetting(msg)
    return parts


def _measure(observation: Observation, layer: str, batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """Of a batch of each class: each class's entry without an image of it, and how far a whole batch lowers it."""
    task, (state, _) = observation.task, observation.rounds[0]
    found = torch.stack(
        [_entries(mean_gradient(task, {**state, **copy_buffers(task, state)}, batch), layer) for batch in batches]
    )
    present = found.diagonal()
    offset = (found.sum(dim=0) - present) / (len(found) - 1)
    return offset, (offset - present).mean()


def _count(entries: Tensor, offset: Tensor, impact: Tensor, count: int) -> Tensor:
    """Name one image after the other; see `infer_labels`."""
    rest = entries.clone()
    # Where more classes look present than there are images, the strongest are.
    named = [int(k) for k in rest.argsort()[:count] if rest[k] < 0]
    for k in named:
        rest[k] += impact
    while len(named) < count:
        k = int((rest - offset).argmin())
        rest[k] += impact
        named.append(k)
    return torch.tensor(sorted(named), device=entries.device)
