import functools
import weakref
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gradiograph.audit.client import client_update, observe
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Belief
from gradiograph.core.threat import ThreatModel
from gradiograph.defences import Clip, GaussianNoise
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import CustodyBroken, check_custody, specimens

IMAGES = specimens.batch(3).images


def observation():
    return specimens.observe(specimens.task(), specimens.batch(3))


def closure_over(value):
    def simulate(batch):
        return Belief({"x": value})

    return simulate


def suspended(value):
    yield len(value)
    yield value


@dataclass(frozen=True)
class Holder:
    value: object

    def simulate(self, batch):
        return self.value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def module_with_hook(value):
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda *_: value)
    return module


def module_with_buffer(value):
    module = nn.Linear(2, 2)
    module.register_buffer("cache", value)
    return nn.Sequential(module)


def with_graph(images):
    leaf = images.clone().requires_grad_()
    return (leaf * 2).exp().sum()


def memoised(images):
    @functools.lru_cache
    def features(key):
        return images.clone()

    return features


def filled_cache(images):
    pool = {"x": images.clone()}

    @functools.lru_cache
    def features(key):
        return pool.pop(key)

    features("x")
    return features


def running_generator(images):
    generator = suspended(images)
    next(generator)
    return generator


PLANTS = {
    "itself": lambda x: x,
    "closure": closure_over,
    "nested dictionary": lambda x: {"a": {"b": [{"c": x}]}},
    "key of a dictionary": lambda x: {x: "found"},
    "view": lambda x: x.view(3, -1),
    "slice": lambda x: x[1, :, 3:5, 3:5],
    "transposed view": lambda x: x.transpose(-1, -2),
    "partial": lambda x: functools.partial(print, x),
    "keyword of a partial": lambda x: functools.partial(print, extra=x),
    "bound method": lambda x: Holder(x).simulate,
    "built-in method": lambda x: [x].append,
    "dataclass": Holder,
    "slots": Slotted,
    "namespace": lambda x: SimpleNamespace(deep=SimpleNamespace(value=x)),
    "default argument": lambda x: eval("lambda batch, kept=x: kept", {"x": x}),  # noqa: S307
    "global variable": lambda x: eval("lambda batch: kept", {"kept": x}),  # noqa: S307
    "lambda in a lambda": lambda x: lambda: lambda: x,
    "set": lambda x: {x},
    "frozen set in a tuple": lambda x: (1, frozenset({x})),
    "iterator": lambda x: iter([x]),
    "zip": lambda x: zip([1], [x], strict=True),
    "suspended generator": running_generator,
    "weak reference": lambda x: weakref.ref(x),
    "hook": module_with_hook,
    "buffer of a module": module_with_buffer,
    "parameter": lambda x: nn.ParameterList([nn.Parameter(x)]),
    "gradient": lambda x: SimpleNamespace(tensor=_with_grad(x)),
    "attribute of a tensor": lambda x: _with_attribute(x),
    "clone by value": lambda x: x.clone(),
    "one image by value": lambda x: x[2].clone(),
    "half precision": lambda x: x.half(),
    "flattened among others": lambda x: torch.cat([torch.zeros(7), x[1].flatten(), torch.ones(5)]),
    "array": lambda x: x.numpy(),
    "array by value": lambda x: x.numpy().astype(np.float64),
    "array of objects": lambda x: np.array([x.clone(), None], dtype=object),
    "bytes": lambda x: b"head" + x.numpy().tobytes(),
    "autograd graph": with_graph,
    "memoised function": memoised,
    "content of a cache": filled_cache,
}


def _with_grad(images):
    tensor = torch.zeros_like(images, requires_grad=True)
    tensor.grad = images.clone()
    return tensor


def _with_attribute(images):
    tensor = torch.zeros(2)
    tensor.note = images
    return tensor


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_planted_leak_is_found(plant):
    images = IMAGES.clone()
    with pytest.raises(CustodyBroken, match=r"^observation"):
        check_custody({"harmless": torch.zeros(4), "planted": plant(images)}, images)


@pytest.mark.parametrize("plant", ["closure", "partial", "bound method", "autograd graph"])
def test_leak_in_simulate_is_found(plant):
    images = IMAGES.clone()
    with pytest.raises(CustodyBroken, match="simulate"):
        check_custody(replace(observation(), simulate=PLANTS[plant](images)), images)


def test_leak_through_the_graph_of_an_update_is_found():
    task, batch = specimens.task(), specimens.batch(3)
    images = batch.images.requires_grad_()
    update = FedAvg(local_steps=1, learning_rate=0.1).local_update(task, task.state(), batch, None, differentiable=True)
    with pytest.raises(CustodyBroken, match="grad_fn"):
        check_custody(update.tensors, images)


@pytest.mark.parametrize("protocol", [None, FedAvg(local_steps=2, learning_rate=0.1, batch_size=2)])
@pytest.mark.parametrize("known", [True, False])
def test_clean_observation_passes(protocol, known):
    batch = specimens.batch(3)
    threat = ThreatModel(knows_labels=known, knows_protocol=known, knows_defence=known)
    seen = specimens.observe(specimens.task(), batch, threat=threat, protocol=protocol)
    check_custody(seen, batch.images)


def test_constant_images_accuse_no_constant_tensor():
    check_custody([torch.zeros(1, 16, 16), torch.ones(64, 16)], torch.zeros(2, 1, 16, 16))


def test_other_images_pass():
    check_custody([specimens.films(5, (1, 16, 16), "other"), [closure_over(torch.zeros(3, 1, 16, 16))]], IMAGES)


def test_parameters_of_the_images_size_pass():
    weights = torch.rand(40, 16 * 16, generator=stream(0, "weights"))
    check_custody(weights, IMAGES)


@pytest.mark.parametrize("name", ["fedsgd", "fedavg"])
def test_observation_of_an_audit_passes(name):
    """What `audit` hands to an attack, with a noise defence and every permission granted."""
    batch, task = specimens.batch(3), specimens.task()
    protocol = FedSGD() if name == "fedsgd" else FedAvg(local_steps=2, learning_rate=0.1, batch_size=2)
    defence = Chain(stages=(Clip(norm=0.5), GaussianNoise(std=0.01)))
    update = client_update(task, task.state(), batch, protocol, defence, 7, "batch", 0)
    threat = ThreatModel(knows_labels=True)
    seen = observe(task, task.state(), update, protocol, defence, threat, batch.targets)
    check_custody(seen, batch.images)
