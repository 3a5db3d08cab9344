"""Reading source without running it: names, constants, and what an expression is made of."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_CASTS: dict[str, Callable[[Any], Any]] = {"float": float, "int": int, "bool": bool, "str": str}


@dataclass(frozen=True)
class Module:
    """One file: its name inside the app, and its syntax tree."""

    name: str
    tree: ast.Module

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions and methods."""
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, Function))

    @cached_property
    def calls(self) -> tuple[ast.Call, ...]:
        """All calls."""
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name in the file."""
        return frozenset(words(self.tree))

    def at(self, node: ast.AST) -> str:
        """Where a node is: file and line."""
        return f"{self.name}:{getattr(node, 'lineno', 1)}"


@dataclass(frozen=True)
class Source:
    """The files of an app, and the settings that it reads from its `pyproject.toml`."""

    modules: tuple[Module, ...]
    config: Mapping[str, Any]

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Names that get one constant value in the whole app."""
        found: dict[str, set[Any]] = {}
        for module in self.modules:
            for name, value in assignments(module.tree):
                found.setdefault(name, set()).add(evaluate(value, {}, self.config))
        return {name: next(iter(values)) for name, values in found.items() if len(values) == 1 and None not in values}

    @cached_property
    def words(self) -> frozenset[str]:
        """Every name in the app."""
        return frozenset(word for module in self.modules for word in module.words)

    def value(self, node: ast.AST | None) -> Any:  # noqa: ANN401 - whatever constant the source holds
        """The constant that an expression is, None where that cannot be read off."""
        return evaluate(node, self.constants, self.config)

    def calls(self, *names: str) -> Iterator[tuple[Module, ast.Call]]:
        """All calls of functions or methods of these names."""
        for module in self.modules:
            yield from ((module, call) for call in module.calls if name_of(call) in names)


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """The calls below a node of functions or methods of these names."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node) in names)


def name_of(node: ast.AST) -> str:
    """The last part of the name that an expression begins with; empty where it has none.

    >>> name_of(ast.parse("np.random.normal(0, 1)").body[0].value)
    'normal'
    """
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def words(tree: ast.AST) -> set[str]:
    """All names below a node: variables, attributes, arguments, functions, imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                found.add(word.rpartition(".")[2])
    return found


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """The argument of a call by its keyword, or by its position."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == name]
    if given:
        return given[0]
    return call.args[position] if position is not None and position < len(call.args) else None


def assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what is assigned to them, also as attributes (`self.clip = 1.0`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from ((name, node.value) for name in [name_of(target)] if name)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None and name_of(node.target):
            yield name_of(node.target), node.value


def reaches(tree: ast.AST, node: ast.AST) -> set[str]:
    """The names that an expression is made of, through the assignments below `tree`."""
    assigned: dict[str, set[str]] = {}
    for name, value in assignments(tree):
        assigned.setdefault(name, set()).update(words(value))
    reached, new = set[str](), words(node)
    while new:
        reached |= new
        new = {word for name in new for word in assigned.get(name, ())} - reached
    return reached


def evaluate(node: ast.AST | None, constants: Mapping[str, Any], config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The constant that an expression is, None where it is none.

    Numbers and text, arithmetic on them, names in `constants`, casts, and settings: `run_config["clip"]`, or a name
    like a setting's (`target_delta`), which stands for it.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = name_of(node)
        return constants.get(name, config.get(name.replace("_", "-")))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = evaluate(node.operand, constants, config)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp):
        return _operate(node, constants, config)
    if isinstance(node, ast.Subscript) and name_of(node.value).endswith("config"):
        return config.get(evaluate(node.slice, constants, config))
    return _evaluate_call(node, constants, config) if isinstance(node, ast.Call) else None


def _operate(node: ast.BinOp, constants: Mapping[str, Any], config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    left, right = (evaluate(side, constants, config) for side in (node.left, node.right))
    numbers = all(isinstance(side, (int, float)) for side in (left, right))
    try:
        return _OPERATORS[type(node.op)](left, right) if numbers and type(node.op) in _OPERATORS else None
    except (ArithmeticError, ValueError):
        return None


def _evaluate_call(node: ast.Call, constants: Mapping[str, Any], config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    name = name_of(node)
    if name in _CASTS and len(node.args) == 1:
        inner = evaluate(node.args[0], constants, config)
        return None if inner is None else _CASTS[name](inner)
    if name == "get" and node.args and isinstance(node.func, ast.Attribute) and "config" in name_of(node.func.value):
        default = evaluate(node.args[1], constants, config) if len(node.args) > 1 else None
        return config.get(evaluate(node.args[0], constants, config), default)
    return None
