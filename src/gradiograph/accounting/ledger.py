"""Events on disk: a TOML or JSON file with a list `events`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from gradiograph.core.errors import BadSetting, nearest
from gradiograph.core.privacy import PrivacyEvent, Whose

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class _Event:
    """An event as it stands in a file; see `PrivacyEvent`."""

    units: Annotated[int, Field(ge=1)]
    noise_multiplier: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    site: str = "site 0"
    unit: Whose = "image"
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    steps: Annotated[int, Field(ge=1)] = 1
    rounds: Annotated[int, Field(ge=1)] = 1
    group: Annotated[int, Field(ge=1)] = 1
    claimed: Annotated[float, Field(gt=0)] | None = None


_EVENT = TypeAdapter(_Event)


def is_ledger(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a list of events."""
    return "events" in content


def read_ledger(content: Mapping[str, Any]) -> tuple[PrivacyEvent, ...]:
    """The events of a file's content.

    Raises:
        BadSetting: an event lacks a key, or has one of the wrong kind.
    """
    entries = content.get("events")
    if not isinstance(entries, list) or not entries:
        msg = "The file has no events. Write a list `events` (in TOML: [[events]]), see docs/privacy.md."
        raise BadSetting(msg)
    return tuple(_read(number, entry) for number, entry in enumerate(entries, start=1))


def write_ledger(events: Iterable[PrivacyEvent]) -> str:
    """Events as JSON, which `read_ledger` reads."""
    return json.dumps({"events": [asdict(event) for event in events]}, indent=1) + "\n"


def load(path: Path) -> dict[str, Any]:
    """The content of a TOML or JSON file.

    Raises:
        BadSetting: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        msg = f"The file cannot be read ({error.strerror}). Give an audit file, a run's folder, or a file of events."
        raise BadSetting(msg) from None
    except ValueError as error:
        msg = f"The file is neither valid TOML nor, ending in .json, valid JSON: {error}."
        raise BadSetting(msg) from None
    return content


def _read(number: int, entry: object) -> PrivacyEvent:
    try:
        return PrivacyEvent(**asdict(_EVENT.validate_python(entry)))
    except ValidationError as error:
        problem = error.errors()[0]
        key, known = ".".join(map(str, problem["loc"])) or "event", _Event.__dataclass_fields__
        told = f"{key} = {problem['input']!r}: {problem['msg']}." if key in known else nearest(key, known)
        msg = f"Event {number}: '{key}' is refused or lacks. {told}"
        raise BadSetting(msg) from None
