"""Subset sums: their generators are found from noisy points, up to order."""

from itertools import product

import pytest
import torch

from gradiograph.attacks.vertices import generators
from gradiograph.core.random import stream


def sums(count, error, units=90, width=0.0, seed=0):
    """Generators of which two nearly cancel, and noisy sums of them, as of units below a two-class head."""
    draw = stream(seed, "sums")
    alike = 1 + 0.2 * torch.randn(count, count, generator=draw, dtype=torch.float64)
    vectors = alike * torch.tensor([1.0, -1.0] * count, dtype=torch.float64)[:count, None]
    masks = (torch.rand(units, count, generator=draw) > 0.5).double()
    masks[: units // 2] = 1.0
    points = masks @ vectors + error * torch.randn(units, count, generator=draw, dtype=torch.float64)
    points = points * (1 + width * torch.randn(units, 1, generator=draw, dtype=torch.float64))
    return vectors, points


def misplaced(found, vectors):
    return float(torch.cdist(vectors, found).amin(dim=1).max() / vectors.norm(dim=1).min())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_generators_are_found_from_noisy_sums(count):
    vectors, points = sums(count, 0.005)
    found = generators(points, torch.full((len(points),), 0.005), count, stream(0, "starts"))
    assert found.shape == (count, count)
    assert misplaced(found, vectors) < 0.02


def test_points_that_are_no_sum_do_not_disturb():
    vectors, points = sums(4, 0.005)
    points[-8:] += 0.7
    found = generators(points, torch.full((len(points),), 0.005), 4, stream(0, "starts"))
    assert misplaced(found, vectors) < 0.02


def test_errors_that_are_too_small_in_one_direction_are_widened():
    vectors, points = sums(4, 0.002, width=0.01)
    found = generators(points, torch.full((len(points),), 0.002), 4, stream(0, "starts"))
    assert misplaced(found, vectors) < 0.05


def test_what_is_uncertain_is_left_out():
    vectors, points = sums(3, 0.005)
    errors = torch.full((len(points),), 0.005)
    points[40:50], errors[40:50] = 9.0, 5.0
    points[50] = float("nan")
    found = generators(points, errors, 3, stream(0, "starts"))
    assert misplaced(found, vectors) < 0.02
    assert generators(points, torch.full_like(errors, 5.0), 3, stream(0, "starts")) is None


def test_every_subset_is_a_sum_of_what_was_found():
    vectors, points = sums(3, 1e-4)
    found = generators(points, torch.full((len(points),), 1e-4), 3, stream(0, "starts"))
    corners = torch.tensor(list(product([0.0, 1.0], repeat=3)), dtype=torch.float64) @ found
    assert torch.cdist(points, corners).amin(dim=1).max() < 0.01 * vectors.norm(dim=1).max()
