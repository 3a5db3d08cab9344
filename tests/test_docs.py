"""What the documentation says is so: its audit is valid, its examples run, its tables are complete."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gradiograph import audit, testing
from gradiograph.cli import app
from gradiograph.core import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")

testing.load_rooms()
ALL = [component for kind in registry.KINDS for component in registry.components(kind)]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def readme_audit():
    (block,) = blocks(README, "toml")
    return tomllib.loads(block)


def test_readme_audit_is_valid():
    spec = audit.parse_spec(readme_audit())
    attacks = [registry.build("attack", config) for config in spec.attacks]
    for attack, config in zip(attacks, spec.attacks, strict=True):
        spec.threat.require(config["use"], *attack.requires)


def configs_of(content):
    yield "data", content["data"]
    yield "task", content["task"]
    yield "protocol", content["protocol"]
    for stack in content["defences"]:
        yield from (("defence", config) for config in stack)
    yield from (("attack", config) for config in content["attacks"])
    for metric in content["metrics"]:
        yield "metric", {"use": metric} if isinstance(metric, str) else metric


@pytest.mark.parametrize(
    ("kind", "config"),
    list(configs_of(readme_audit())),
    ids=lambda value: value if isinstance(value, str) else value["use"],
)
def test_readme_component_takes_its_settings(kind, config):
    registry.check(kind, config)


def test_readme_names_every_component():
    table = {
        line.split("|")[1].strip(): line.split("|")[2]
        for line in README.splitlines()
        if line.startswith("| ") and line.split("|")[1].strip() in registry.KINDS
    }
    assert set(table) == set(registry.KINDS)
    for kind, cell in table.items():
        named = set(re.findall(r"`(\w+)`", cell))
        missing = {component.name for component in registry.components(kind)} - named
        assert not missing, f"{kind}: {missing}"


def verbs_of(group):
    return {command.name or command.callback.__name__ for command in group.registered_commands}


def test_readme_verbs_exist():
    verbs = set(re.findall(r"^    gradiograph ([\w-]+)", README, flags=re.MULTILINE)) | {"demo", "init", "show"}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert verbs <= verbs_of(app) | set(groups)
    for name, group in groups.items():
        pairs = set(re.findall(rf"^    gradiograph {name} (\w+)", README, flags=re.MULTILINE))
        assert pairs, f"gradiograph {name}"
        assert pairs <= verbs_of(group)


def test_make_targets_of_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z]+)\b(?= *#|`)", page.read_text("utf-8"))}
    assert {"demo", "test", "check"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    # The demonstration's picture is made by a run.
    missing = [link for link in links if not (page.parent / link).exists() and link != "docs/demo.png"]
    assert not missing


@pytest.mark.parametrize(("page", "kind"), [("adding-an-attack.md", "attack"), ("adding-a-defence.md", "defence")])
def test_worked_example_runs(page, kind, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(registry._COMPONENTS[kind])
    names = []
    for block in blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "python"):
        name = re.match(r"# (\w+)\.py\n", block)[1]
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
        names.append(name)
    component, tests = names
    try:
        importlib.import_module(component)
        (added,) = set(registry._COMPONENTS[kind]) - set(before)
        assert added == component
        testing.check_component(registry.component(kind, added))
        ran = [test() for name, test in vars(importlib.import_module(tests)).items() if name.startswith("test_")]
        assert len(ran) == 2
    finally:
        registry._COMPONENTS[kind].clear()
        registry._COMPONENTS[kind].update(before)
        for name in names:
            sys.modules.pop(name, None)


@pytest.mark.parametrize(("page", "room"), [("adding-an-attack.md", "attacks"), ("adding-a-defence.md", "defences")])
def test_worked_example_keeps_our_rules(page, room):
    component, tests = blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "python")
    ruff = Path(sys.executable).with_name("ruff")
    for block, place in ((component, f"src/gradiograph/{room}/example.py"), (tests, "tests/test_example.py")):
        for command in (["check", "--ignore", "ERA001"], ["format", "--check"]):
            found = subprocess.run(
                [ruff, *command, "--no-cache", "--stdin-filename", place, "-"],
                cwd=ROOT,
                input=block,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("component", ALL, ids=lambda component: f"{component.kind}-{component.name}")
def test_paper_is_a_reference(component):
    """A component either cites nothing or cites authors, a year and a place to find it."""
    if component.paper:
        assert re.search(r"\b(19|20)\d\d\b", component.paper)
        assert component.summary
