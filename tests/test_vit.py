"""The vision transformer, and the attack that solves for its patches, on known answers."""

import pytest
import torch

from attack_observations import ignore
from gradiograph.attacks import April
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import check_attack, load_rooms, specimens
from gradiograph.testing.specimens import observe

load_rooms()
SHAPE = (3, 32, 24)


def vit(**settings):
    return build("task", {"use": "vit", "patch_size": 8, "width": 32, "depth": 2, **settings}, SHAPE, 0)


@pytest.mark.parametrize(
    ("protocol", "least"), [(FedSGD(), 60), (FedAvg(local_steps=3, learning_rate=1e-3), 20)], ids=["fedsgd", "fedavg"]
)
def test_one_image_is_solved_for_whatever_the_blocks(protocol, least):
    private = Batch(specimens.films(1, SHAPE, "patient"), torch.tensor([1]))
    found = April()(observe(vit(), private, protocol=protocol), stream(0, "attack"), ignore)
    assert float(-10 * (found.images - private.images).square().mean().log10()) > least
    assert ("approximate" in found.flags) == (protocol.kind == "delta")


def test_patches_that_outnumber_the_tokens_width_are_refused():
    with pytest.raises(BadSetting, match="32 for 48 patches"):
        April().check(build("task", {"use": "vit", "patch_size": 4, "width": 32}, SHAPE, 0))


def test_several_images_and_other_models_are_refused():
    with pytest.raises(BadSetting, match=r"victims\.size = 1"):
        April()(observe(vit(), specimens.batch(2, SHAPE)), stream(0, "attack"), ignore)
    with pytest.raises(BadSetting, match="vision transformer"):
        April().check(specimens.task())
    with pytest.raises(BadSetting, match="vision transformer"):
        April().check(vit(trainable="head"))


def test_april_keeps_the_contract():
    check_attack(April, task=vit(), batch_size=1)


def test_images_that_patches_do_not_cover_are_refused():
    with pytest.raises(BadSetting, match=r"does not divide images of 32 x 24"):
        vit(patch_size=7)
