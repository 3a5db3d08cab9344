"""The documentation: the site builds without a warning, its tutorial runs, its commands exist."""

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError
from typer.testing import CliRunner

import gradiograph.report
from gradiograph.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return module_of(ROOT / "docs" / "reference.py")


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path, caplog):
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    pages = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")
    }
    assert {"index.html", "tutorial.html", "reference/components.html", "studies/unmixing.html"} <= set(pages)
    for name, page in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]*)"', page)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(https?:[^"]*)"', page)
        assert not loaded, name
    assert "unmixing" in pages["reference/components.html"]
    assert "gradiograph purge" in pages["reference/cli.html"]


def test_an_undocumented_public_name_ends_the_build(reference, monkeypatch):
    def unexplained():
        pass

    monkeypatch.setattr(gradiograph.report, "judge", unexplained)
    with pytest.raises(PluginError, match=r"gradiograph\.report\.judge"):
        reference.pages()


def test_the_tutorial_runs_as_it_stands(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```\w+\n(# (\S+)\n.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        (tmp_path / block[1]).write_text(block[0], encoding="utf-8")
    assert tomllib.loads((tmp_path / "audit.toml").read_text())["name"] == "my-first-audit"
    monkeypatch.chdir(tmp_path)
    printed = {}
    for command in re.findall(r"^    gradiograph (.*)$", text, flags=re.MULTILINE):
        result = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
        assert result.exit_code == 0, command
        printed[command] = result.stdout
    assert len(printed) == 6
    assert json.loads(printed["report my-run --format json"])["name"] == "my-first-audit"
    assert "removed" in printed["purge my-run"].lower()


def commands():
    """Every command line of the pages: its page, its words."""
    for page in PAGES:
        for line in re.findall(
            r"^(?:    |#   )(gradiograph .*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        ):
            yield pytest.param(re.split(r"  +|\s#\s", line)[0], id=f"{page.name}: {line[:50]}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_of_the_pages_exists_with_its_options(line):
    words = re.sub(r"[\[\]]", " ", line).split()[1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", {}), f"no such verb: {line}"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def test_the_notebook_is_what_its_cells_print(monkeypatch, tmp_path):
    """The kept notebook has today's cells, without an error; and they run."""
    monkeypatch.chdir(tmp_path)
    written = module_of(ROOT / "docs" / "notebook.py")
    kept = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in kept["cells"]] == list(written.CELLS)
    assert all(output["output_type"] != "error" for cell in kept["cells"] for output in cell.get("outputs", ()))
    room: dict[str, object] = {}
    for kind, source in written.CELLS:
        if kind == "code":
            exec(source, room)  # noqa: S102 - our own cells
    own, other = room["psnr"](room["own"], room["first"].images), room["psnr"](room["other"], room["first"].images)
    assert len(own) == len(other) == 4
