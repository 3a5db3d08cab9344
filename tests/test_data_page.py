"""What the page on medical data says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gradiograph import audit, testing
from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from gradiograph.data.windows import PRESETS
from medical_specimens import decathlon_folder

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


def spec_of(unit_settings):
    content = audit.builtin("demo.toml")
    data = {"use": "decathlon", "path": "task", "label": "mask", "fractions": [0.3, 0.3, 0.4], **unit_settings}
    task = {"use": "lenet", "num_classes": 2}
    return audit.parse_spec(
        content | {"data": data, "task": task, "victims": {"split": "test", "batches": 2, "size": 1}}
    )


def test_an_audit_takes_slices_and_says_why_not_patches(tmp_path):
    decathlon_folder(tmp_path / "task", volumes=12)
    made = audit.plan(spec_of({"image_size": 12}), tmp_path)
    assert made.films.dataset.classes == ("background", "box")
    with pytest.raises(BadInput, match=r"of unit 'patch' with the shape \(1, 4, 12, 12\).*Set data.unit = 'slice'"):
        audit.plan(spec_of({"unit": "patch", "size": [4, 12, 12]}), tmp_path)
