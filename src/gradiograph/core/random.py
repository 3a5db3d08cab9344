"""Named random streams for torch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from gradiograph.core.seeds import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator


def stream(seed: int, *names: object) -> torch.Generator:
    """A CPU generator for the stream of this name; see `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


@contextmanager
def global_stream(seed: int, *names: object) -> Iterator[None]:
    """Torch's global generator set to a named stream inside the block and put back after it.

    For library code that takes no generator: the initialisation of `nn.Module`, dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *names))  # noqa: TID251 - the one place, inside fork_rng
        yield
