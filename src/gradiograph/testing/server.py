"""What a server's optimiser promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradiograph.core.server import Server
from gradiograph.testing import specimens
from gradiograph.testing.contract import (
    assert_frozen,
    assert_like,
    assert_same,
    clone,
    global_randomness_untouched,
    run_checks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradiograph.core.server import ServerMemory


def check_server(build: Callable[[], Server]) -> None:
    """Check a server's optimiser over three rounds: layout, determinism, purity, direction.

    Args:
        build: Makes the optimiser.

    Raises:
        ContractBroken: a promise is broken.
    """
    server = build()
    run_checks(server, _CHECKS, type(server).__name__)


def _is_frozen(server: Server) -> None:
    """It is a `Server` and a frozen dataclass."""
    assert isinstance(server, Server), f"{type(server).__name__} is no Server"
    assert_frozen(server)


def _layout(server: Server) -> None:
    """Weights keep their names and shapes and stay finite, round after round; so does the memory."""
    weights, memory = specimens.update_tensors("weights"), _NOTHING
    for number in range(3):
        weights, memory = server.step(weights, specimens.update_tensors(number), memory)
        for tensors in (weights, *memory.values()):
            assert_like(specimens.update_tensors("weights"), tensors, "weights and memory")


def _is_pure(server: Server) -> None:
    """The same input gives the same output, no input changes, and nothing is drawn."""
    weights, direction = specimens.update_tensors("weights"), specimens.update_tensors("direction")
    _, memory = server.step(weights, direction, _NOTHING)
    before = [clone(weights), clone(direction), *map(clone, memory.values())]
    with global_randomness_untouched():
        first, second = (server.step(weights, direction, memory)[0] for _ in range(2))
    assert_same(first, second, "two steps")
    for old, new in zip(before, [weights, direction, *memory.values()], strict=True):
        assert_same(old, new, "the input")


def _follows(server: Server) -> None:
    """The first step goes along the direction in every value, and nowhere where that is zero."""
    weights = {"w": torch.zeros(3)}
    moved, _ = server.step(weights, {"w": torch.tensor([1.0, -2.0, 0.0])}, _NOTHING)
    assert moved["w"].sign().tolist() == [1.0, -1.0, 0.0], f"it moved by {moved['w'].tolist()}"


_NOTHING: ServerMemory = {}
_CHECKS = (_is_frozen, _layout, _is_pure, _follows)
