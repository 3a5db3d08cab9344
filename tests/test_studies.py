"""The studies: their recipes can be followed, and their report quotes what was kept."""

from __future__ import annotations

import base64
import io
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from gradiograph import audit
from gradiograph.cli import app

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "studies"
FILES = sorted(STUDIES.rglob("*.toml"))

sys.path[:0] = [str(STUDIES), str(STUDIES / "project")]
import build  # noqa: E402 - found by the line above
import kept  # noqa: E402
import realism  # noqa: E402
import write  # noqa: E402

TINY = """# A study of nobody.
#   gradiograph prior train tiny.toml --components 4 --out runs/prior.npz
#   gradiograph run tiny.toml    # all of it
#   gradiograph report runs/tiny --format json
name          = "tiny"
purpose       = "test"
authorised_by = "nobody: the phantom has no patients"

data     = { use = "phantom", image_size = 32, patients = 60, fractions = [0.4, 0.0, 0.6] }
victims  = { batches = 2, size = 1 }
task     = { use = "lenet" }
protocol = { use = "fedsgd" }
attacks  = [{ use = "map", steps = 1, prior = "runs/prior.npz" }]
metrics  = ["psnr"]
"""


@pytest.mark.parametrize("study", FILES, ids=lambda path: path.stem)
def test_every_recipe_can_be_followed(study):
    """Its commands exist with their options, and its run is of an audit file that is valid but for its films."""
    commands = build.recipe(study)
    assert commands, "no recipe at the head"
    for program, *words in commands:
        if program == "python":
            assert (ROOT / words[0]).is_file()
            continue
        command = typer.main.get_command(app)
        while words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known
        if command.name == "run":
            changes = [after for word, after in pairwise(words) if word == "--set"]
            assert audit.load_spec(ROOT / words[0], changes).seeds


def test_a_recipe_is_followed_and_what_is_there_is_kept(tmp_path, capfd):
    study = tmp_path / "tiny.toml"
    study.write_text(TINY)
    build.build(study, tmp_path)
    prior, log = tmp_path / "runs" / "prior.npz", tmp_path / "runs" / "tiny" / "audit.json"
    assert prior.is_file()
    assert log.is_file()
    assert "tiny" in capfd.readouterr().out
    made = prior.stat().st_mtime_ns
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "tiny" / "cells").rglob("*.npz")}
    build.build(study, tmp_path)
    assert prior.stat().st_mtime_ns == made
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
    study.write_text(TINY.replace("fedsgd", "fedsdg"))
    with pytest.raises(SystemExit, match="tiny: gradiograph run ended with 2"):
        build.build(study, tmp_path)
    assert "fedsgd" in capfd.readouterr().err


@pytest.mark.parametrize("rung", realism.RUNGS, ids=lambda rung: rung.name)
def test_a_rung_is_the_audit_file_with_its_changes(rung):
    words = shlex.split(realism.command(rung.name))
    changes = [after for word, after in pairwise(words) if word == "--set"]
    spec = audit.load_spec(ROOT / words[2], changes)
    assert changes == realism.overrides(rung.name)
    assert spec.utility is not None
    assert spec.seeds == [7, 8]


def pixels(address):
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return np.asarray(picture, dtype=float)


def test_no_number_of_the_report_is_typed():
    """But for the years of papers, the numbers of networks, and what a setting says."""
    for name in ("report.md.j2", "slides.html.j2"):
        text = (STUDIES / "project" / name).read_text(encoding="utf-8")
        text = re.sub(
            r"\{\{.*?\}\}|\{%.*?%\}|<style>.*?</style>|<script>.*?</script>|<meta[^>]*>|`[^`]*`",
            "",
            text,
            flags=re.DOTALL,
        )
        text = re.sub(r"et al\. \d{4}|\b0\.445\b|</?h\d>|\(\.\./[^)]*\)|95 %|seeds=\[7\]|\d+ or \d+ pixels", "", text)
        assert not re.findall(r"[^\n]*\d[^\n]*", text), name


def test_what_the_studies_do_not_hold_is_an_error():
    study = kept.Study("frontier_search")
    assert study.told(attack="map(prior=#4b25df)", defence="none") == "5 of 8"
    with pytest.raises(kept.NoSuchNumber, match="fits 0 settings"):
        study.told(attack="map(prior=#4b25df)", defence="nothing")
    with pytest.raises(kept.NoSuchNumber, match="fits 2 settings"):
        study.told(attack="map*", defence="none")


def test_the_report_and_the_slides_are_what_the_studies_hold_today():
    """Written again, both are the kept ones, and load nothing."""
    found = write.claims()
    report = write.render("report.md.j2", found)
    assert (STUDIES / "results" / "report" / "README.md").read_text(encoding="utf-8") == report
    for name in ("report.html", "slides.html"):
        page = (STUDIES / "results" / "report" / name).read_text(encoding="utf-8")
        assert not re.findall(r'(?:src|href)="https?:', page)
        (shown,) = set(re.findall(r'src="(data:image[^"]*)"', page))
        np.testing.assert_allclose(pixels(shown), pixels(write.phantom()), atol=4, err_msg="more than the phantom")
    slides = (STUDIES / "results" / "report" / "slides.html").read_text(encoding="utf-8")
    assert 10 <= slides.count("<section") <= 15


def test_films_stay_outside_the_repository(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["write.py", "--films", "runs/realism"])
    with pytest.raises(SystemExit, match="outside the repository"):
        write.main()
