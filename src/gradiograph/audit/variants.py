"""Protocols that differ from the audit file's in one part: what an app may do that its description does not say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from itertools import chain
from math import exp, log
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.audit.client import CapturedRound
    from gradiograph.core.defence import Chain
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task

_STEPS = 20
_MOMENTA = (0.0, 0.5, 0.9, 0.95, 0.99)
_DECAYS = (0.0, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "(x - 0.5) / 0.5": lambda x: (x - 0.5) / 0.5,
    "0 to 255": lambda x: 255 * x,
    "ImageNet's mean and deviation": lambda x: _by_channel(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST's mean and deviation": lambda x: (x - 0.1307) / 0.3081,
    "mean 0 and deviation 1 in each film": lambda x: _standardised(x),
    "1 - x": lambda x: 1 - x,
}


class Variant(NamedTuple):
    """A round in which one part is another one, and the sentence that says which."""

    sentence: str
    task: Task
    protocol: Protocol
    defence: Chain
    batch: Batch


def variants(
    task: Task, protocol: Protocol, defence: Chain, seen: CapturedRound, batch: Batch
) -> tuple[Iterator[Variant], ...]:
    """All rounds that differ from this one in one part.

    In two groups: without a protection first, for loud noise that is not there lets much else look possible.
    """
    own = Variant("", task, protocol, defence, batch)
    return _defences(own), chain(_protocols(own, seen), _tasks(own, seen), _films(own))


def _protocols(own: Variant, seen: CapturedRound) -> Iterator[Variant]:
    for key, found in _settings(own, seen):
        asked: Any = getattr(own.protocol, key)
        if found == asked:
            continue
        changes = {key: found} | ({"local_epochs": None} if key == "local_steps" else {})
        text = f"{found:.3g}" if isinstance(found, float) else str(found)
        sentence = f"{key} differs: the captured update is that of {key} = {text}, the audit file says {asked}."
        if key == "learning_rate":
            sentence += " A loss that is summed over the films, or a clipped update, would look the same."
        yield own._replace(sentence=sentence, protocol=replace(own.protocol, **changes))


def _settings(own: Variant, seen: CapturedRound) -> Iterator[tuple[str, Any]]:
    known = {field.name for field in fields(own.protocol)}
    tried: dict[str, list[Any]] = {
        "learning_rate": _learning_rates(own, seen) if "learning_rate" in known else [],
        "local_steps": list(range(1, _STEPS + 1)),
        "momentum": list(_MOMENTA) if getattr(own.protocol, "optimiser", "") == "sgd" else [],
        "weight_decay": list(_DECAYS),
        "optimiser": ["sgd", "adamw"],
        "mu": [0.001, 0.01, 0.1, 1.0],
    }
    for key, values in tried.items():
        for value in values if key in known else ():
            if not (key == "optimiser" and getattr(own.protocol, "momentum", False)):
                yield key, value


def _learning_rates(own: Variant, seen: CapturedRound) -> list[float]:
    """The rates at which the replay is as long as the captured update, found by the secant of their logarithms."""
    found: list[float] = []
    rate, power, step, before = own.protocol.step_size, 1.0, 0.0, 0.0
    for _ in range(8):
        changes: dict[str, Any] = {"learning_rate": rate}
        clean = replace(own.protocol, **changes).local_update(own.task, seen.state, own.batch, None).tensors
        inner = sum(float((clean[name] * seen.update.tensors[name]).sum()) for name in seen.update.tensors)
        square = sum(float(clean[name].square().sum()) for name in seen.update.tensors)
        if not inner > 0 < square:
            break
        short = log(inner / square)
        if found and short != before:
            power = max(step / (before - short), 0.0)
        before, step = short, max(min(power * short, 1.0), -1.0)
        rate *= exp(step)
        found.append(rate)
    return found


def _tasks(own: Variant, seen: CapturedRound) -> Iterator[Variant]:
    mode: Literal["train", "eval"] = "eval" if own.task.mode == "train" else "train"
    other = replace(own.task, model=deepcopy(own.task.model), mode=mode)
    sentence = f"mode differs: the app's normalisation layers are in mode {mode}, the audit's task in {own.task.mode}."
    yield own._replace(sentence=sentence, task=other)
    moved = tuple(name for name in own.task.trainable if bool(seen.update.tensors[name].any()))
    if moved and moved != own.task.trainable:
        still = next(name for name in own.task.trainable if name not in moved)
        sentence = f"The layers that train differ: the app leaves '{still}' as it was, the audit's task trains it."
        yield own._replace(sentence=sentence, task=replace(own.task, trainable=moved))


def _films(own: Variant) -> Iterator[Variant]:
    for name, scale in _SCALES.items():
        sentence = f"The scaling of the images differs: the app trains on {name}, the audit on values in [0, 1]."
        yield own._replace(sentence=sentence, batch=Batch(scale(own.batch.images), own.batch.targets))
    flips = {"left to right": -1, "upside down": -2}
    for turn, flip in flips.items():
        sentence = f"The orientation of the images differs: the app's films are turned {turn}."
        yield own._replace(sentence=sentence, batch=Batch(own.batch.images.flip(flip), own.batch.targets))
    for shift in range(1, own.task.num_classes):
        sentence = "The order of the classes differs: the app gives other numbers to them. Sort them as the app does."
        targets = (own.batch.targets + shift) % own.task.num_classes
        yield own._replace(sentence=sentence, batch=Batch(own.batch.images, targets))


def _defences(own: Variant) -> Iterator[Variant]:
    for place, stage in enumerate(own.defence.stages):
        rest = own.defence.stages[:place] + own.defence.stages[place + 1 :]
        name = type(stage).__name__
        sentence = f"The protection differs: the captured update is that of captured.defence without {name}."
        yield own._replace(sentence=sentence, defence=replace(own.defence, stages=rest))


def _by_channel(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    if images.shape[1] != len(mean):
        return images
    centre, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
    return (images - centre) / spread


def _standardised(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    centre, spread = flat.mean(dim=1), flat.std(dim=1).clamp_min(1e-8)
    return (images - centre.view(-1, 1, 1, 1)) / spread.view(-1, 1, 1, 1)
