"""Custody of the private images: nothing that the server holds may lead back to them."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# An image is recognised within this distance in every pixel, so that a copy in half precision is, too.
_TOLERANCE = 2e-3
# An image with less contrast equals any constant tensor, so that finding it proves nothing.
_CONTRAST = 0.02
_PROBES = 16
_LEAVES = (type, ModuleType, CodeType, torch.Generator, str, int, float, complex, range, type(None))

Step = tuple[str, object]


class CustodyBroken(AssertionError):
    """What the server holds reaches the private images; the message says along which path."""


def check_custody(observation: object, private: Tensor) -> None:
    """Walk everything that an observation reaches and fail where that is a private image.

    It follows attributes, mappings, sequences, sets, closures, defaults and named globals of functions,
    `functools.partial`, bound methods, suspended generators, hooks, gradients, views, the autograd graph with what it
    saved, and every other reference that Python's garbage collector sees. A tensor or array leaks if it shares memory
    with the images, or if the pixels of an image stand in it in their order, alone or among other values. An image
    that was transposed, scaled or encoded is not recognised.

    Args:
        observation: What the server holds, an `Observation` or anything else.
        private: (B, C, *spatial), the images that it must not reach.

    Raises:
        CustodyBroken: an image is reached.

    >>> images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> check_custody({"update": torch.zeros(3)}, images)
    >>> check_custody({"cache": [images[0].clone()]}, images)
    Traceback (most recent call last):
    ...
    gradiograph.testing.custody.CustodyBroken: observation['cache'][0] holds a private image by value.
    """
    secret = _Secret.of(private)
    visited: dict[int, object] = {}  # holds what was visited, so that no id is given twice
    pending: deque[Step] = deque([("observation", observation)])
    while pending:
        path, value = pending.popleft()
        if isinstance(value, _LEAVES) or id(value) in visited:
            continue
        visited[id(value)] = value
        found = secret.found_in(value)
        if found:
            msg = f"{path} {found}."
            raise CustodyBroken(msg)
        if not isinstance(value, bytes | bytearray):
            pending.extend((path + step, child) for step, child in _children(value))


@dataclass(frozen=True)
class _Secret:
    rows: tuple[NDArray[np.float32], ...]
    encoded: tuple[bytes, ...]
    start: int
    end: int

    @classmethod
    def of(cls, private: Tensor) -> _Secret:
        images = private.detach().cpu().contiguous().numpy()
        rows = [image.astype(np.float32).ravel() for image in images]
        storage = private.untyped_storage()
        return cls(
            rows=tuple(row for row in rows if np.ptp(row) > _CONTRAST),
            encoded=tuple(image.tobytes() for image in images),
            start=storage.data_ptr(),
            end=storage.data_ptr() + storage.nbytes(),
        )

    def found_in(self, value: object) -> str:
        """How the value leaks, for the message; empty if it does not."""
        if isinstance(value, bytes | bytearray):
            return "holds a private image as bytes" if any(image in value for image in self.encoded) else ""
        if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta":
            storage = value.untyped_storage()
            start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
            values = value.detach().cpu().to(torch.float32).numpy()
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            start, end = np.lib.array_utils.byte_bounds(value)
            values = value.astype(np.float32)
        else:
            return ""
        if start < self.end and self.start < end:
            return "shares memory with the private images"
        return "holds a private image by value" if any(_holds(values.ravel(), row) for row in self.rows) else ""


def _holds(values: NDArray[np.float32], row: NDArray[np.float32]) -> bool:
    """Whether the row stands anywhere in the values."""
    places = np.arange(len(values) - len(row) + 1)
    # Probing from the darkest to the brightest pixel leaves no constant stretch to compare in full.
    probes = np.argsort(row)[np.linspace(len(row) - 1, 0, _PROBES, dtype=int)]
    for pixel in probes:
        places = places[np.abs(values[places + pixel] - row[pixel]) < _TOLERANCE]
    return any(np.abs(values[place : place + len(row)] - row).max() < _TOLERANCE for place in places)


def _children(value: object) -> Iterator[Step]:
    for kind, step in _STEPS:
        if isinstance(value, kind):
            yield from step(value)
    yield from ((f".{name}", child) for name, child in getattr(value, "__dict__", {}).items())
    if not isinstance(value, FunctionType):  # among a function's referents are all globals of its module
        yield from ((f" -> {type(child).__name__}", child) for child in gc.get_referents(value))


def _of_mapping(mapping: Mapping[Any, Any]) -> Iterator[Step]:
    yield from ((f"[{key!r}]", child) for key, child in mapping.items())


def _of_sequence(sequence: Sequence[Any]) -> Iterator[Step]:
    yield from ((f"[{place}]", child) for place, child in enumerate(sequence))


def _of_partial(call: partial[Any]) -> Iterator[Step]:
    yield from ((f".{name}", getattr(call, name)) for name in ("func", "args", "keywords"))


def _of_method(method: MethodType) -> Iterator[Step]:
    yield from ((f".{name}", getattr(method, name)) for name in ("__self__", "__func__"))


def _of_weak_reference(reference: ReferenceType[Any]) -> Iterator[Step]:
    yield ("()", reference())


def _of_function(function: FunctionType) -> Iterator[Step]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield (f".__closure__[{name}]", cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    yield from ((f".{name}", getattr(function, name)) for name in ("__defaults__", "__kwdefaults__"))
    for name in function.__code__.co_names:
        held = function.__globals__.get(name)
        # Functions among the globals are libraries'; to follow them would be to walk all of torch.
        if not callable(held):
            yield (f".__globals__[{name}]", held)


def _of_array(array: NDArray[Any]) -> Iterator[Step]:
    if array.dtype.hasobject:
        yield (".tolist()", array.tolist())


def _of_tensor(tensor: Tensor) -> Iterator[Step]:
    yield from ((f".{name}", getattr(tensor, name)) for name in ("grad_fn", "_base", "_backward_hooks"))
    if tensor.is_leaf:
        yield (".grad", tensor.grad)
    if tensor.layout == torch.sparse_coo:
        yield from ((f".{name}()", getattr(tensor.detach().coalesce(), name)()) for name in ("indices", "values"))


def _of_graph(node: torch.autograd.graph.Node) -> Iterator[Step]:
    yield from ((f".next_functions[{place}]", parent) for place, (parent, _) in enumerate(node.next_functions))
    for name in dir(node):
        if name in ("variable", "saved_tensors") or name.startswith("_saved_"):
            try:
                yield (f".{name}", getattr(node, name))
            except RuntimeError:  # freed by a backward pass: nothing is left to reach
                continue


_STEPS: tuple[tuple[type, Callable[[Any], Iterator[Step]]], ...] = (
    (Mapping, _of_mapping),
    (Sequence, _of_sequence),
    (partial, _of_partial),
    (MethodType, _of_method),
    (ReferenceType, _of_weak_reference),
    (FunctionType, _of_function),
    (np.ndarray, _of_array),
    (Tensor, _of_tensor),
    (torch.autograd.graph.Node, _of_graph),
)
