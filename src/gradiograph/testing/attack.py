"""What an attack promises."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from gradiograph.core.attack import Attack
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.random import stream
from gradiograph.core.tensors import Reconstruction
from gradiograph.core.threat import ThreatModel
from gradiograph.testing import specimens
from gradiograph.testing.contract import assert_frozen, assert_same, clone, global_randomness_untouched, run_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.defence import Defence
    from gradiograph.core.task import Task

# What a threat model can withhold; the other fields have one value only.
_KNOWLEDGE = (
    "knows_labels",
    "knows_num_examples",
    "knows_buffers",
    "knows_protocol",
    "knows_defence",
    "public_data",
    "malicious_server",
)


def check_attack(
    build: Callable[[], Attack], *, task: Task | None = None, batch_size: int = 2, defence: Defence | None = None
) -> None:
    """Check an attack on one small round: result, randomness, custody of its input, honesty about what it needs.

    Args:
        build: Makes the attack, with settings that make it quick (few steps).
        task: The model that it attacks; a small convolutional network on 1 x 16 x 16 images by default.
        batch_size: Images behind the update.
        defence: The client's channel; none by default.

    Raises:
        ContractBroken: a promise is broken.
    """
    attack = build()
    model = specimens.task() if task is None else task
    model, _ = attack.plant(model, model.state())
    trial = _Trial(attack=attack, task=model, batch_size=batch_size, defence=defence)
    run_checks(trial, _CHECKS, type(attack).__name__)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    attack: Attack
    task: Task
    batch_size: int
    defence: Defence | None

    def observe(self, threat: ThreatModel | None = None) -> Observation:
        private = specimens.batch(self.batch_size, self.task.image_shape)
        granted = dict.fromkeys(("knows_labels", *self.attack.requires), True)
        threat = _threat(granted) if threat is None else threat
        return specimens.observe(self.task, private, threat=threat, defence=self.defence)

    def run(self, observation: Observation, seed: int = 0) -> Reconstruction:
        return self.attack(observation, stream(seed, "attack"), lambda _: None)


def _threat(granted: Mapping[str, bool]) -> ThreatModel:
    """The threat model that grants these, and what it grants by default."""
    fields = {name: value for name, value in granted.items() if name != "malicious_server"}
    server = {"server": "malicious"} if granted.get("malicious_server") else {}
    return ThreatModel.model_validate({**fields, **server})


def _is_frozen(trial: _Trial) -> None:
    """It is an `Attack` and a frozen dataclass."""
    assert isinstance(trial.attack, Attack), f"{type(trial.attack).__name__} is no Attack"
    assert_frozen(trial.attack)


def _reconstructs(trial: _Trial) -> None:
    """The result has one image for each behind the update, float32 in [0, 1], on the CPU, without a graph."""
    _assert_reconstruction(trial, trial.run(trial.observe()))


def _assert_reconstruction(trial: _Trial, result: Reconstruction) -> None:
    images = result.images
    shape = (trial.batch_size, *trial.task.image_shape)
    assert images.shape == shape, f"images have shape {tuple(images.shape)}, expected {shape}"
    assert images.dtype == torch.float32, f"images are {images.dtype}"
    assert images.device.type == "cpu", f"images are on {images.device}"
    assert not images.requires_grad, "images carry a graph"
    assert bool(torch.isfinite(images).all()), "images are not finite"
    low, high = images.min().item(), images.max().item()
    assert low >= 0 and high <= 1, f"images are in [{low:.3g}, {high:.3g}], allowed is [0, 1]"  # noqa: PT018
    _assert_targets(trial, result.targets)
    assert result.seconds >= 0, f"seconds = {result.seconds}"
    assert all(isinstance(value, float) for value in result.objective), "the objective's history is not of floats"
    assert bool(torch.isfinite(torch.tensor(result.objective)).all()), "the objective's history is not finite"


def _assert_targets(trial: _Trial, targets: Tensor | None) -> None:
    if targets is None:
        return
    allowed = ((trial.batch_size,), (trial.batch_size, trial.task.num_classes))
    assert tuple(targets.shape) in allowed, f"targets have shape {tuple(targets.shape)}, allowed are {allowed}"
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    assert bool(((labels >= 0) & (labels < trial.task.num_classes)).all()), "targets are no classes"


def _is_deterministic(trial: _Trial) -> None:
    """The same generator gives the same images, and no other randomness is used."""
    observation = trial.observe()
    with global_randomness_untouched():
        first, second = trial.run(observation, 3), trial.run(observation, 3)
    assert torch.equal(first.images, second.images), "two runs differ"


def _keeps_observation(trial: _Trial) -> None:
    """The observation and the task's model are not changed."""
    observation = trial.observe()
    (state, update), model = observation.rounds[0], trial.task.model
    kept = {"state": state, "update": update.tensors, "buffers": update.buffers, "model": model.state_dict()}
    before = {name: clone(tensors) for name, tensors in kept.items()}
    trial.run(observation)
    kept["model"] = model.state_dict()
    for name, tensors in kept.items():
        assert_same(before[name], tensors, name)
    left = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert not left, f"gradients are left on the model's {left}"
    assert model.training == (trial.task.mode == "train"), "the model's mode was changed"


def _reports_progress(trial: _Trial) -> None:
    """Progress never falls, stays in [0, 1] and ends at 1."""
    shares: list[float] = []
    trial.attack(trial.observe(), stream(0, "attack"), shares.append)
    assert shares, "progress was never called"
    assert shares == sorted(shares), f"progress falls: {shares}"
    assert shares[0] >= 0, f"progress starts at {shares[0]}"
    assert abs(shares[-1] - 1) < 1e-6, f"progress ends at {shares[-1]}"


def _requires_known_fields(trial: _Trial) -> None:
    """`requires` names fields that a threat model can withhold."""
    unknown = [name for name in trial.attack.requires if name not in _KNOWLEDGE]
    assert not unknown, f"{unknown} are not among {_KNOWLEDGE}"


def _refuses_without_knowledge(trial: _Trial) -> None:
    """Without any one of the things it requires it raises `MissingKnowledge`: it never guesses and never peeks."""
    for field in trial.attack.requires:
        threat = _threat({"knows_labels": True, **dict.fromkeys(trial.attack.requires, True), field: False})
        message = ""
        try:
            trial.run(trial.observe(threat))
        except MissingKnowledge as error:
            message = str(error)
        assert message, f"it ran without {field}"
        assert field in message, f"the message does not name {field}: {message}"


def _runs_with_what_it_requires(trial: _Trial) -> None:
    """What it does not require may be withheld: it runs on the required knowledge alone."""
    threat = _threat({field: field in trial.attack.requires for field in _KNOWLEDGE})
    _assert_reconstruction(trial, trial.run(trial.observe(threat)))


def _equals_by_settings(trial: _Trial) -> None:
    """Two instances with the same settings are equal."""
    settings = {field.name: getattr(trial.attack, field.name) for field in fields(trial.attack) if field.init}
    assert type(trial.attack)(**settings) == trial.attack, "a copy made from its fields is not equal"


_CHECKS = (
    _is_frozen,
    _reconstructs,
    _is_deterministic,
    _keeps_observation,
    _reports_progress,
    _requires_known_fields,
    _refuses_without_knowledge,
    _runs_with_what_it_requires,
    _equals_by_settings,
)
