"""The network that federations train on few cores: its size, and that no film sees another."""

import pytest
import torch

from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.tasks import small_cnn


def test_it_has_98_thousand_parameters_at_any_size_and_no_buffers():
    for side in (32, 64):
        task = small_cnn((1, side, side), 0)
        assert sum(tensor.numel() for tensor in task.state().values()) == 97650
        assert not list(task.model.named_buffers())


def test_a_film_is_judged_alone_and_by_the_seed():
    task = small_cnn((1, 32, 32), 0)
    images = torch.rand(4, 1, 32, 32, generator=stream(0, "images"))
    together = task.forward(task.state(), images)
    torch.testing.assert_close(together[2:3], task.forward(task.state(), images[2:3]))
    assert not torch.equal(together, small_cnn((1, 32, 32), 1).forward(small_cnn((1, 32, 32), 1).state(), images))


def test_images_that_are_too_small_are_refused():
    with pytest.raises(BadSetting, match="15 x 64 pixels; at least 16 x 16"):
        small_cnn((1, 15, 64), 0)
