"""The rooms whose components the registry knows once they are imported."""

from __future__ import annotations

from importlib import import_module

ROOMS = ("data", "tasks", "protocols", "defences", "federation", "attacks", "metrics")


def load_rooms() -> None:
    """Import every room, so that `core.registry.components` knows all components of this package."""
    for room in ROOMS:
        import_module(f"gradiograph.{room}")
