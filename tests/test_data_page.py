"""What the page on medical data says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gradiograph import audit, testing
from gradiograph.core import registry
from gradiograph.data.windows import PRESETS

testing.load_rooms()
PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("data = ")]


@pytest.mark.parametrize("line", LINES)
def test_settings_are_taken(line):
    registry.check("data", tomllib.loads(line)["data"])


def test_every_component_is_there():
    named = set(re.findall(r"^\| `(\w+)`", PAGE, flags=re.MULTILINE))
    assert named == {component.name for component in registry.components("data")}


def test_every_preset_is_there():
    told = re.findall(r"`(\w+)` (-?\d+), (\d+)[;.]", PAGE.replace("\n", " "))
    assert {name: (float(level), float(width)) for name, level, width in told} == PRESETS


@pytest.mark.parametrize("partition", ["iid", "by_site"])
def test_partitions_are_taken(partition):
    content = audit.builtin("demo.toml") | {"utility": {"rounds": 1, "partition": partition}}
    assert audit.parse_spec(content).utility.partition.by_site is (partition == "by_site")
