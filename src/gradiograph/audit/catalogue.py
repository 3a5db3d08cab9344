"""All components that an audit can use: ours and those of installed packages."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gradiograph.core import registry

ENTRY_POINTS = "gradiograph.components"
ROOMS = ("data", "tasks", "protocols", "defences", "federation", "attacks", "metrics")


@cache
def load_components() -> None:
    """Import the rooms, then every module that a package names in the entry-point group `gradiograph.components`."""
    for room in ROOMS:
        import_module(f"gradiograph.{room}")
    for entry in entry_points(group=ENTRY_POINTS):
        entry.load()


def prepare(kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Check a component's settings and make its paths absolute.

    Args:
        kind: The component's kind.
        config: `use` and settings; a task's `use = "module:function"` is the user's own model.
        folder: What relative paths are relative to: the audit file's folder.

    Raises:
        BadInput: the component or a setting does not exist or has an impossible value.
    """
    load_components()
    if kind == "task" and ":" in str(config.get("use", "")):
        config = {"search_path": ".", **config, "use": "custom", "entry": config["use"]}
    _, settings = registry.check(kind, config)
    paths = {name: str(folder / value) for name, value in settings.items() if isinstance(value, Path)}
    inner = {"of": prepare(kind, settings["of"], folder)} if kind == "attack" and "of" in settings else {}
    return {**config, **paths, **inner}


def label(config: dict[str, Any]) -> str:
    """A component and its settings in one line; a path shows as a hash, so that no name of a file gets into a result.

    >>> label({"use": "qsgd", "levels": 16})
    'qsgd(levels=16)'
    >>> label({"use": "lenet", "trainable": {"lora": 4}})
    'lenet(trainable=lora=4)'
    """
    shown = _settings({key: value for key, value in config.items() if key != "use"})
    return f"{config['use']}({shown})" if shown else str(config["use"])


def stack_label(stack: list[dict[str, Any]]) -> str:
    """The label of a defence stack; "none" for the undefended baseline."""
    return " + ".join(map(label, stack)) or "none"


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return label(value) if "use" in value else _settings(value)
    if isinstance(value, str) and any(mark in value for mark in "/\\."):
        return "#" + sha256(value.encode()).hexdigest()[:6]
    return str(value)
