"""How a contract is checked: every check runs, and all that fail are reported together."""

from __future__ import annotations

import dataclasses
import inspect
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

T = TypeVar("T")


class ContractBroken(AssertionError):
    """A component does not keep what its interface promises; the message lists every promise that is broken."""


def run_checks(subject: T, checks: Sequence[Callable[[T], None]], name: str) -> None:
    """Run all checks on the subject. A check's docstring is the promise; any exception in it breaks the promise.

    Args:
        subject: What is checked.
        checks: Functions that raise where the promise is broken.
        name: What the message calls the subject.

    Raises:
        ContractBroken: at least one check failed.
    """
    broken: list[tuple[str, Exception]] = []
    for check in checks:
        try:
            check(subject)
        except Exception as error:
            broken.append((inspect.getdoc(check) or check.__name__, error))
    if broken:
        lines = [f"  {promise} But: {type(error).__name__}: {error}" for promise, error in broken]
        msg = f"{name} breaks {len(broken)} of {len(checks)} promises:\n" + "\n".join(lines)
        raise ContractBroken(msg) from broken[0][1]


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Fail if the block draws from torch's or Python's global generator, or seeds it."""
    before = torch.get_rng_state(), random.getstate()
    yield
    after = torch.get_rng_state(), random.getstate()
    assert torch.equal(before[0], after[0]), "torch's global generator was used; draw from the generator passed in"
    assert before[1] == after[1], "Python's global generator was used; draw from the generator passed in"


def assert_frozen(instance: object) -> None:
    """Fail unless the object is an instance of a frozen dataclass."""
    kind = type(instance)
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert frozen, f"{kind.__name__} is not a frozen dataclass"


def assert_same(left: Mapping[str, Tensor], right: Mapping[str, Tensor], what: str) -> None:
    """Fail unless both have the same names and bit-equal tensors (NaN equals NaN)."""
    assert list(left) == list(right), f"{what}: names {list(right)}, expected {list(left)}"
    for name, tensor in left.items():
        assert torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(right[name])), f"{what}: '{name}' differs"


def assert_like(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Fail unless `given` has the names, shapes, dtypes and devices of `expected` and is finite."""
    assert set(expected) == set(given), f"{what}: names {sorted(given)}, expected {sorted(expected)}"
    for name, tensor in expected.items():
        found = given[name]
        for key in ("shape", "dtype", "device"):
            left, right = getattr(tensor, key), getattr(found, key)
            assert left == right, f"{what}: '{name}' has {key} {right}, expected {left}"
        assert bool(torch.isfinite(found).all()), f"{what}: '{name}' is not finite"


def clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
