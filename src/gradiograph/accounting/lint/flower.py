"""The lint on a Flower app: its files, read and never run, or its objects."""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

from gradiograph.accounting.lint.flower_mechanisms import SECURED, local_mod, mechanisms
from gradiograph.accounting.lint.rule import Lint, lint
from gradiograph.accounting.lint.setup import Setup
from gradiograph.accounting.lint.syntax import Module, Source
from gradiograph.core.errors import BadSetting

LARGEST_FILE = 1_000_000
"""Larger files, in bytes, are not source that someone wrote."""


def lint_app(target: object, **known: Any) -> Lint:  # noqa: ANN401 - facts
    """Judge a Flower app.

    Args:
        target: The app's folder or one file of it (read, never run); an imported module; a strategy, a mod, a
            `ClientApp` or a `ServerApp`; or a list of these.
        known: Facts that no source tells, as keywords of `Setup`: `units`, `images_per_patient`, `rounds`, ...

    Returns:
        Findings, each with its place, and the rules that could not be checked.

    Raises:
        BadInput: there is no Python source to read, or a fact does not exist.

    Differs for source and objects: source is read by its words, so that a mechanism under an unusual name is not seen,
    and what only a run would tell is not known; an object of Flower's own is read by its settings.
    """
    foreign = set(known) - set(Setup.__dataclass_fields__)
    if foreign:
        msg = f"No fact {sorted(foreign)[0]!r}. Valid: {', '.join(sorted(Setup.__dataclass_fields__))}."
        raise BadSetting(msg)
    targets = target if isinstance(target, (list, tuple)) else [target]
    return lint(replace(setup, **known) for each in targets for setup in _setups(each))


def _setups(target: object) -> Iterator[Setup]:
    if isinstance(target, (str, Path)):
        yield from mechanisms(_app(Path(target)))
    elif isinstance(target, ModuleType):
        read = mechanisms(_source(target))
        yield from read
        for value in vars(target).values() if not read else ():
            if _is_flower(value) and not isinstance(value, type):
                yield from _object(value)
    else:
        yield from _object(target)


def _object(target: object) -> Iterator[Setup]:
    """A strategy or a mod of Flower's by its settings, an app by its mods and functions, all else by its source."""
    name = type(target).__name__
    if name in ("ClientApp", "ServerApp"):
        for part in _parts(target):
            yield from _object(part)
    elif name == "LocalDpMod":
        clip, sensitivity, epsilon, delta = (
            getattr(target, field) for field in ("clipping_norm", "sensitivity", "epsilon", "delta")
        )
        yield local_mod(where=name, sensitivity_per_clip=sensitivity / clip, epsilon=epsilon, delta=delta)
    elif name.startswith("DifferentialPrivacy") and hasattr(target, "noise_multiplier"):
        yield _strategy(target)
    elif not _is_flower(target):
        yield from mechanisms(_source(target if inspect.isroutine(target) or inspect.isclass(target) else type(target)))


def _parts(app: object) -> list[object]:
    """The mods and functions that an app was given: those it names, and those that Flower wrapped around each other."""
    found: dict[int, object] = {}
    left = [*getattr(app, "_mods", ()), *getattr(app, "_registered_funcs", {}).values()]
    left += [getattr(app, name, None) for name in ("_call", "_main")]
    while left:
        part = left.pop(0)
        inside = [cell.cell_contents for cell in getattr(part, "__closure__", None) or ()]
        if inspect.isfunction(part) and _is_flower(part):
            left += [value for held in inside for value in (held if isinstance(held, list) else [held])]
        elif callable(part):
            found[id(part)] = part
    return list(found.values())


def _strategy(target: Any) -> Setup:  # noqa: ANN401 - a strategy of Flower's
    accountant = getattr(target, "accountant", None)
    accounted = accountant is not None
    weighed = hasattr(target.strategy, "weighted_by_key") or type(target.strategy).__name__.startswith("FedAvg")
    return Setup(
        where=type(target).__name__,
        unit="client",
        accountant="kept" if accounted else None,
        sampling="all" if accounted else None,
        accounted_sampling="all" if accounted else None,
        noise_divided_by="clients",
        weighting="equal" if accounted else ("reported" if weighed else None),
        delta=accountant.config.target_delta if accountant else None,
        units=accountant.config.population_size if accountant else None,
        clients=int(target.num_sampled_clients),
        neighbours="add_or_remove",
        **{**SECURED, "clipped": None if "ClientSide" in type(target).__name__ else True},
    )


def _is_flower(target: object) -> bool:
    module = getattr(target, "__module__", "") if callable(target) else type(target).__module__
    return str(module).split(".")[0] == "flwr"


def _source(target: Any) -> Source:  # noqa: ANN401 - whatever `inspect` takes
    try:
        text = dedent(inspect.getsource(target))
    except (OSError, TypeError):
        msg = f"The source of {getattr(target, '__name__', type(target).__name__)!r} cannot be read. Give its file."
        raise BadSetting(msg) from None
    tree = ast.parse(text)
    if inspect.isfunction(target):  # the mods in its decorators are read as the objects that they are
        for call in (part for node in tree.body for part in getattr(node, "decorator_list", ())):
            if isinstance(call, ast.Call):
                call.args, call.keywords = [], []
    return Source((Module(getattr(target, "__name__", "source"), tree),), {})


def _app(path: Path) -> Source:
    if not path.exists():
        msg = "There is no such file or folder. Give the folder that holds the app's pyproject.toml, or a Python file."
        raise BadSetting(msg)
    root = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    kept = [file for file in files if not _is_foreign(file.relative_to(root)) and file.stat().st_size <= LARGEST_FILE]
    if not kept:
        msg = "The folder holds no Python files. Give the folder that holds the app's pyproject.toml."
        raise BadSetting(msg)
    return Source(tuple(_parse(file, root) for file in kept), _config(root / "pyproject.toml"))


def _is_foreign(file: Path) -> bool:
    """Whether a file belongs to a virtual environment, or is hidden."""
    return any(part.startswith(".") or part in ("site-packages", "node_modules", "venv") for part in file.parts)


def _parse(file: Path, root: Path) -> Module:
    name = file.relative_to(root).as_posix()
    try:
        return Module(name, ast.parse(file.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError) as error:
        msg = f"{name} is not Python source that can be read ({type(error).__name__}). Mend it, or give one file."
        raise BadSetting(msg) from None


def _config(file: Path) -> dict[str, Any]:
    """The settings `tool.flwr.app.config`, flat; empty where there are none."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    found: dict[str, Any] = content.get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
    return _flat(found)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as Flower names them: `train.lr`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
