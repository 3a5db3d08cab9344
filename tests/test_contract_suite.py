"""The contract suite passes an honest component and catches each way to break a promise."""

from dataclasses import dataclass, replace

import pytest
import torch

from gradiograph import testing
from gradiograph.core.attack import Attack
from gradiograph.core.defence import Defence
from gradiograph.core.errors import MissingKnowledge
from gradiograph.core.records import Dataset, Record
from gradiograph.core.registry import Component
from gradiograph.core.scoring import Score
from gradiograph.core.tensors import Belief, Reconstruction
from gradiograph.protocols import FedSGD
from gradiograph.testing import ContractBroken, specimens

LEAKED = []


@dataclass(frozen=True, kw_only=True)
class Noise(Defence):
    """Gaussian noise, honestly.

    Args:
        std: Its size.
    """

    std: float = 0.05

    def on_update(self, tensors, generator):
        return {name: t + self.std * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}

    def expect(self, belief):
        variance = {name: torch.full_like(t, self.std**2) for name, t in belief.mean.items()}
        if belief.variance is not None:
            variance = {name: t + belief.variance[name] for name, t in variance.items()}
        return Belief(belief.mean, variance)

    def log_likelihood(self, seen, belief):
        after = self.expect(belief)
        return sum(-((seen[n] - m) ** 2 / after.variance[n]).sum() / 2 for n, m in after.mean.items())

    def encode(self, sent, encoding):
        return encoding


@dataclass(frozen=True, kw_only=True)
class ChangesInput(Noise):
    def on_update(self, tensors, generator):
        return {name: t.add_(self.std * torch.randn(t.shape, generator=generator)) for name, t in tensors.items()}


@dataclass(frozen=True, kw_only=True)
class GlobalNoise(Noise):
    def on_update(self, tensors, generator):
        return {name: t + self.std * torch.randn(t.shape) for name, t in tensors.items()}


@dataclass(frozen=True, kw_only=True)
class Passes(Noise):
    def on_update(self, tensors, generator):
        return dict(tensors)


@dataclass(frozen=True, kw_only=True)
class DropsOne(Noise):
    def on_update(self, tensors, generator):
        return dict(list(super().on_update(tensors, generator).items())[1:])


@dataclass(frozen=True, kw_only=True)
class DividesByNorm(Noise):
    def on_update(self, tensors, generator):
        return {name: t / t.norm() for name, t in tensors.items()}


@dataclass(frozen=True, kw_only=True)
class DetachedLikelihood(Noise):
    def log_likelihood(self, seen, belief):
        return super().log_likelihood(seen, belief).detach()


@dataclass(frozen=True, kw_only=True)
class WrongSign(Noise):
    def log_likelihood(self, seen, belief):
        return -super().log_likelihood(seen, belief)


@dataclass(frozen=True, kw_only=True)
class ScoreVector(Noise):
    def log_likelihood(self, seen, belief):
        return torch.stack([-(seen[n] - m).square().sum() for n, m in belief.mean.items()])


@dataclass(frozen=True, kw_only=True)
class NegativeVariance(Noise):
    def expect(self, belief):
        return Belief(belief.mean, {name: -torch.ones_like(t) for name, t in belief.mean.items()})


@dataclass(frozen=True, kw_only=True)
class FractionOfABit(Noise):
    def encode(self, sent, encoding):
        return replace(encoding, value_bits=1.5)


@dataclass(frozen=True, kw_only=True)
class Shrugs(Attack):
    """Returns noise, but says honestly what it would need."""

    shift: float = 0.0

    @property
    def requires(self):
        return ("knows_labels",)

    def __call__(self, observation, generator, progress):
        observation.threat.require("shrugs", *self.requires)
        progress(0.5)
        progress(1.0)
        images = torch.rand(observation.num_examples, *observation.task.image_shape, generator=generator)
        return Reconstruction(images=images + self.shift, targets=observation.labels, objective=(1.0,), seconds=0.0)


@dataclass(frozen=True, kw_only=True)
class Peeks(Shrugs):
    def __call__(self, observation, generator, progress):
        allowed = replace(observation, threat=observation.threat.model_copy(update={"knows_labels": True}))
        return super().__call__(allowed, generator, progress)


@dataclass(frozen=True, kw_only=True)
class NeedsMore(Shrugs):
    def __call__(self, observation, generator, progress):
        if observation.simulate is None:
            msg = "needs knows_protocol"
            raise MissingKnowledge(msg)
        return super().__call__(observation, generator, progress)


@dataclass(frozen=True, kw_only=True)
class TrainsTheModel(Shrugs):
    def __call__(self, observation, generator, progress):
        with torch.no_grad():
            next(observation.task.model.parameters()).add_(1.0)
        return super().__call__(observation, generator, progress)


@dataclass(frozen=True, kw_only=True)
class DrawsGlobally(Shrugs):
    def __call__(self, observation, generator, progress):
        return super().__call__(observation, torch.default_generator, progress)


@dataclass(frozen=True, kw_only=True)
class StopsHalfway(Shrugs):
    def __call__(self, observation, generator, progress):
        return super().__call__(observation, generator, lambda share: progress(share / 2))


def distance(guess, truth, labels, context):
    """Mean absolute error."""
    return (Score("mae", "", False, (guess - truth).abs().mean((1, 2, 3))),)


def wrong_direction(guess, truth, labels, context):
    return (replace(distance(guess, truth, labels, context)[0], larger_leaks_more=True),)


def pooled(guess, truth, labels, context):
    score = distance(guess, truth, labels, context)[0]
    return (replace(score, values=score.values.mean().expand(len(guess))),)


def mean_only(guess, truth, labels, context):
    score = distance(guess, truth, labels, context)[0]
    return (replace(score, values=score.values.mean()),)


def infinite_psnr(guess, truth, labels, context):
    return (Score("psnr", "dB", True, -10 * (guess - truth).square().mean((1, 2, 3)).log10()),)


def changes_guess(guess, truth, labels, context):
    return distance(guess.mul_(0.5), truth, labels, context)


class Drifts:
    def __init__(self):
        self.calls = 0

    def __call__(self, guess, truth, labels, context):
        self.calls += 1
        score = distance(guess, truth, labels, context)[0]
        return (replace(score, values=score.values + self.calls),)


@dataclass(frozen=True, kw_only=True)
class KeepsGraph(FedSGD):
    def local_update(self, task, state, batch, generator, *, differentiable=False):
        return super().local_update(task, state, batch, generator, differentiable=True)


@dataclass(frozen=True, kw_only=True)
class NoReplay(FedSGD):
    def local_update(self, task, state, batch, generator, *, differentiable=False):
        found = super().local_update(task, state, batch, generator)
        return found._replace(tensors={name: t.detach() for name, t in found.tensors.items()})


@dataclass(frozen=True, kw_only=True)
class ScaledGradient(FedSGD):
    @property
    def step_size(self):
        return 0.5


def dataset(**changes):
    pixels = specimens.films(4, (1, 8, 8), "data").numpy()
    records = tuple(Record(index=i, label=i % 2, patient=f"patient-{i}", split="train") for i in range(4))
    honest = {
        "name": "fake",
        "classes": ("a", "b"),
        "records": records,
        "image_shape": (1, 8, 8),
        "read": lambda places: pixels[list(places)].copy(),
        "card": "invented",
    }
    return Dataset(**{**honest, **changes})


PIXELS = specimens.films(4, (1, 8, 8), "data").numpy()
TWICE = (
    Record(index=0, label=0, patient="anna-1", split="train"),
    Record(index=1, label=1, patient="anna-1", split="test"),
)


def bad_loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)


def relu_of_nothing():
    task = specimens.task()
    return replace(task, trainable=("3.weight", "no.such"))


class Counted:
    """Another task at each call."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        task = specimens.task()
        with torch.no_grad():
            task.model[3].bias.fill_(self.count)
        return task


BROKEN = [
    (testing.check_defence, ChangesInput, "The input is not changed"),
    (testing.check_defence, Passes, "The input is not changed"),
    (testing.check_defence, GlobalNoise, "same generator gives the same"),
    (testing.check_defence, DropsOne, "names, shapes, dtypes"),
    (testing.check_defence, DividesByNorm, "An update of zeros"),
    (testing.check_defence, DetachedLikelihood, "finite gradient that is not zero"),
    (testing.check_defence, WrongSign, "more likely under the truth"),
    (testing.check_defence, ScoreVector, "finite scalar"),
    (testing.check_defence, NegativeVariance, "variances are >= 0"),
    (testing.check_defence, FractionOfABit, "whole, non-negative numbers"),
    (testing.check_attack, Peeks, "never guesses and never peeks"),
    (testing.check_attack, NeedsMore, "runs on the required knowledge alone"),
    (testing.check_attack, TrainsTheModel, "are not changed"),
    (testing.check_attack, DrawsGlobally, "no other randomness"),
    (testing.check_attack, StopsHalfway, "ends at 1"),
    (testing.check_attack, lambda: Shrugs(shift=0.5), r"float32 in \[0, 1\]"),
    (testing.check_metric, lambda: wrong_direction, "By the stated direction"),
    (testing.check_metric, lambda: pooled, "does not depend on the others"),
    (testing.check_metric, lambda: mean_only, "one finite value per record"),
    (testing.check_metric, lambda: infinite_psnr, "A perfect reconstruction has finite values"),
    (testing.check_metric, lambda: changes_guess, "are not changed"),
    (testing.check_metric, Drifts, "does not change the result"),
    (testing.check_protocol, KeepsGraph, "carries no graph"),
    (testing.check_protocol, NoReplay, "finite gradient, not zero"),
    (testing.check_protocol, ScaledGradient, "a gradient has step size 1"),
    (testing.check_data, lambda: dataset(records=TWICE), "No patient is in two splits"),
    (testing.check_data, lambda: dataset(read=lambda places: PIXELS[sorted(places)].copy()), "keeps the order"),
    (testing.check_data, lambda: dataset(read=lambda places: PIXELS[: len(places)]), "Writing to what"),
    (testing.check_data, lambda: dataset(read=lambda places: 255 * PIXELS[list(places)]), "float32"),
    (testing.check_data, lambda: dataset(card="the films of patient-2"), "No patient identifier"),
    (testing.check_data, lambda: dataset(classes=("a",)), "labels are classes"),
    (testing.check_task, lambda: replace(specimens.task(), loss=bad_loss), "one finite value per example"),
    (testing.check_task, lambda: replace(specimens.task(), num_classes=3), r"to finite \(B, K\)"),
    (testing.check_task, relu_of_nothing, "parameters of the model"),
    (testing.check_task, Counted(), "same weights"),
]


def identifier(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("check", "build", "promise"), BROKEN, ids=identifier)
def test_broken_promise_is_named(check, build, promise):
    with pytest.raises(ContractBroken, match=promise):
        check(build)


@pytest.mark.parametrize(
    ("check", "build"),
    [
        (testing.check_defence, Noise),
        (testing.check_attack, Shrugs),
        (testing.check_metric, lambda: distance),
        (testing.check_protocol, FedSGD),
        (testing.check_data, dataset),
        (testing.check_task, specimens.task),
    ],
)
def test_honest_component_passes(check, build):
    check(build)


def test_every_broken_promise_is_listed():
    @dataclass(frozen=True, kw_only=True)
    class Two(WrongSign):
        def encode(self, sent, encoding):
            return replace(encoding, num_values=0)

    with pytest.raises(ContractBroken, match=r"(?s)Two breaks 2 of .* truth.*at least one byte"):
        testing.check_defence(Two)


def undocumented(*, size: int = 1):
    return size


def full_stop_is_missing(*, size: int = 1):
    """Text without an end

    Args:
        size: Any.
    """
    return size


def silent(*, size: int = 1):
    """Says nothing of its setting."""
    return size


def unannotated(*, size=1):
    """Any.

    Args:
        size: Any.
    """
    return size


def bad_default(*, size: int = "three"):
    """Any.

    Args:
        size: Any.
    """
    return size


@dataclass
class Mutable:
    """A dataclass that is not frozen."""


@dataclass(frozen=True, kw_only=True)
class BareDataclass:
    pass


@pytest.mark.parametrize(
    ("build", "promise"),
    [
        (undocumented, "first line is a sentence"),
        (BareDataclass, "first line is a sentence"),
        (full_stop_is_missing, "first line is a sentence"),
        (silent, "names every setting"),
        (unannotated, "is annotated"),
        (bad_default, "passes its own validation"),
        (Mutable, "is a frozen dataclass"),
    ],
)
def test_component_with_a_flaw_is_caught(build, promise):
    with pytest.raises(ContractBroken, match=promise):
        testing.check_component(Component("metric", "fake", build, ""))


def test_documented_component_passes():
    testing.check_component(Component("defence", "noise", Noise, ""))
