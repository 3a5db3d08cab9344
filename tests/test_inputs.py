"""An audit scans what it reads, refuses identified data, and says in its report what it saw."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from gradiograph.audit import load_spec, plan, run, scan_inputs
from gradiograph.cli import app
from gradiograph.core.errors import DataProblem
from gradiograph.report import render, render_markdown

AUDIT = """
name = "tiny"
purpose = "test"
authorised_by = "test"
data = { use = "folder", path = "films", image_size = 16, patient_pattern = '(.*)', fractions = [0.3, 0.2, 0.5] }
victims = { batches = 2, size = 1 }
task = { use = "lenet" }
protocol = { use = "fedavg", local_steps = 1, learning_rate = 1e-3 }
threat = { knows_labels = true }
attacks = [{ use = "rog", steps = 1 }]
metrics = ["mse"]
"""


@pytest.fixture
def films(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIOGRAPH_PSEUDONYM_KEY", "test")
    rng = np.random.default_rng(0)
    for name in ("NORMAL", "OTHER"):
        (tmp_path / "films" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "films" / name / f"{name.lower()}{number}.png")
    (tmp_path / "audit.toml").write_text(AUDIT)
    return tmp_path


def name_a_patient(films):
    chunks = PngInfo()
    chunks.add_text("Comment", "Quistorvald, born 04.12.1987")
    place = films / "films" / "NORMAL" / "normal3.png"
    Image.open(place).save(place, pnginfo=chunks)


def test_clean_data_runs_and_the_report_says_what_was_seen(films):
    evidence = {
        "profile": "PS3.15", "codes": [["113100", "Basic"]], "files": 20, "deidentified": 20, "actions": {"X": 1234},
        "warnings": {"a face": 2}, "not_checked": ["faces"], "refused": [], "pixels": {},
    }  # fmt: skip
    (films / "films" / "deidentification.json").write_text(json.dumps(evidence))
    log = run(load_spec(films / "audit.toml"), films, films / "run")
    (entry,) = log.header["inputs"]
    assert (entry["role"], entry["files"], entry["identified"]) == ("data", 21, 0)
    page, text = render(log), render_markdown(log)
    for shown in (page, text):
        assert "De-identified as far as the scan sees" in shown
        assert "1,234" in shown
        assert "text in pixels" in shown
        assert "anonym" not in shown.casefold()


def test_identified_data_is_refused_before_anything_runs(films):
    name_a_patient(films)
    with pytest.raises(DataProblem, match=r"1 of 20 files .* C \(dates.*allow_identified = true") as refused:
        run(load_spec(films / "audit.toml"), films, films / "run")
    assert "Quistorvald" not in str(refused.value)
    assert "normal3" not in str(refused.value)
    assert not (films / "run").exists()
    assert CliRunner().invoke(app, ["check", str(films / "audit.toml")]).exception


def test_identified_data_runs_where_the_audit_allows_it_and_the_report_says_so(films):
    name_a_patient(films)
    log = run(load_spec(films / "audit.toml", ["allow_identified=true"]), films, films / "run")
    for shown in (render(log), render_markdown(log)):
        assert "Not de-identified: identifiers in 1 of 20 files" in shown
        assert "Quistorvald" not in shown


def test_computed_data_is_not_scanned(films):
    overrides = ['data={ use = "phantom", image_size = 16, patients = 40 }']
    made = plan(load_spec(films / "audit.toml", overrides), films)
    assert scan_inputs(made) == []


def test_an_index_is_scanned_too(films):
    rows = [
        f"{path.relative_to(films / 'films')},{path.parent.name},{n}" for n, path in enumerate(films.rglob("*.png"))
    ]
    table = "\n".join(["file,label,patient,birth_date", *(f"{row},04.12.1987" for row in rows)])
    (films / "index.csv").write_text(table + "\n")
    data = 'data={ use = "folder", path = "films", index = "index.csv", image_size = 16, fractions = [0.3, 0.2, 0.5] }'
    made = plan(load_spec(films / "audit.toml", [data]), films)
    with pytest.raises(DataProblem, match=r"`data.index` is not de-identified: 1 of 1 files .* C "):
        scan_inputs(made)
