"""What the clients of a Flower app send beside their arrays: counts and metrics, read off its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from gradiograph.accounting.lint.syntax import Function, Source, assignments, calls, name_of

EXAMPLES = "num-examples"
"""The key that Flower weighs clients by."""
_RANGE = re.compile(r"norm|range|scale|\b(min|max|std|mean)\b|(^|[-_])(min|max|std|mean)([-_]|$)")


def replies(source: Source) -> dict[str, Any]:
    """What leaves with the updates of training, by its keys, as facts of a `Setup`."""
    keys = dict.fromkeys(key for key, _ in _entries(source))
    ranges = tuple(key for key in keys if _RANGE.search(key))
    counts = tuple(key for key in keys if key not in (*ranges, EXAMPLES))
    return {"ranges": ranges, "counts": counts, "sends_size": EXAMPLES in keys and not reports_a_constant(source)}


def reports_a_constant(source: Source) -> bool:
    """Whether every client reports the same number of examples, a constant."""
    sizes = [source.value(value) for key, value in _entries(source) if key == EXAMPLES]
    return bool(sizes) and None not in sizes and len(set(sizes)) == 1


def training_functions(source: Source) -> Iterator[Function]:
    """The functions that answer a message to train: `@app.train()`, and `fit` of a client."""
    for module in source.modules:
        for function in module.functions:
            decorated = any(name_of(decorator) == "train" for decorator in function.decorator_list)
            if decorated or function.name == "fit":
                yield function


def _entries(source: Source) -> Iterator[tuple[str, ast.AST | None]]:
    for function in training_functions(source):
        dicts = {name: value for name, value in assignments(function) if isinstance(value, ast.Dict)}
        for call in calls(function, "MetricRecord"):
            for given in [*call.args, *(keyword.value for keyword in call.keywords)]:
                yield from _keys(given, dicts)
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 3:
                yield EXAMPLES, node.value.elts[1]
                yield from _keys(node.value.elts[2], dicts)


def _keys(node: ast.expr, dicts: dict[str, ast.Dict]) -> Iterator[tuple[str, ast.AST | None]]:
    found = node if isinstance(node, ast.Dict) else dicts.get(name_of(node))
    if found is None:
        yield "metrics", None
        return
    for key, value in zip(found.keys, found.values, strict=True):
        yield (str(key.value) if isinstance(key, ast.Constant) else "metrics"), value
