"""What a channel hid is expected again: known posteriors, and a matrix of low rank that is completed."""

from dataclasses import replace

import pytest
import torch

from attack_observations import observe, smooth_images, tiny_task
from gradiograph.attacks.imputation import completed, expected_update, hides
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.defences import QSGD, GaussianNoise, TopK, UniformQuantisation

NAME = "5.weight"


def observed(defence, clean=None):
    """The tiny network's observation under a defence, its dense update replaced by `clean` where that is given."""
    found = observe(tiny_task(), Batch(smooth_images(2), torch.tensor([0, 1])), defence=Chain(stages=(defence,)))
    if clean is None:
        return found
    task = replace(found.task, trainable=(NAME,))
    state, update = found.rounds[0]
    sent = replace(update, tensors=defence.on_update({NAME: clean}, stream(0, "defence")))
    return replace(found, task=task, rounds=((state, sent),))


def matrix_of_rank_two():
    generator = stream(0, "factors")
    return torch.rand(60, 2, generator=generator) @ torch.rand(2, 300, generator=generator)


def test_behind_gaussian_noise_it_is_the_weighted_mean():
    found = observed(GaussianNoise(std=0.5))
    seen = found.rounds[0][1].tensors[NAME]
    mean = torch.full_like(seen, 0.2)
    expected = mean + 0.04 / (0.04 + 0.25) * (seen - mean)
    torch.testing.assert_close(expected_update(found, NAME, mean, torch.tensor(0.04)), expected)


def test_behind_a_quantiser_it_lies_in_the_cell():
    found = observed(UniformQuantisation(bits=3))
    seen = found.rounds[0][1].tensors[NAME]
    half = float(seen.abs().max()) / 6
    update = expected_update(found, NAME, torch.zeros_like(seen), seen.square().mean())
    assert ((update - seen).abs() <= half * 1.01).all()
    assert (update != seen).any()


@pytest.mark.parametrize(
    ("defence", "expected"),
    [
        (GaussianNoise(std=0.1), False),
        (QSGD(levels=4), False),
        (TopK(sparsity=0.5), True),
        (UniformQuantisation(bits=3), True),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else str(value),
)
def test_only_channels_that_move_values_hide(defence, expected):
    assert hides(observed(defence, matrix_of_rank_two()), NAME, 2) is expected


def test_a_sparsified_matrix_of_low_rank_is_completed():
    clean = matrix_of_rank_two()
    found = observed(TopK(sparsity=0.5), clean)
    seen = found.rounds[0][1].tensors[NAME]
    filled = completed(found, NAME, 2, None, 8)
    assert (filled - clean).norm() < 0.7 * (seen - clean).norm()
