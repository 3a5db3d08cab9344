"""What an officer signs: comparisons, remaining risk, JSON, PDF, the model card, and how long pictures stay."""

from __future__ import annotations

import io
import json
import stat
from datetime import UTC, date, datetime, timedelta

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from gradiograph.audit import rescore
from gradiograph.cli import app
from gradiograph.core.errors import LogProblem
from gradiograph.core.registry import components
from gradiograph.log import Log, purge, retained_until
from gradiograph.report import Results, judge, render, render_card, schema, to_json, write_html, write_pdf
from gradiograph.report.comparisons import Comparison, batches_needed, comparisons, holm, sign_flip
from gradiograph.report.residual import RISKS, residual_risks
from gradiograph.report.reviewers import QUESTIONS
from gradiograph.report.statistics import Difference, Film, Interval, Values
from gradiograph.report.taxonomy import PARADIGMS, beyond, paradigms, threat_class
from gradiograph.report.verdict import Status
from gradiograph.testing import load_rooms
from test_frontier import budget, make
from test_report import HOSTILE, NOISE, QSGD, Writer


@pytest.fixture
def log(tmp_path):
    writer = Writer(tmp_path / "run").victims().references()
    return writer.attack("none", 0.9).attack(QSGD, 0.7).attack(NOISE, 0.1).done()


def test_signs_that_are_flipped_give_fishers_exact_chance():
    assert sign_flip(np.ones(5)) == 2 / 32
    assert sign_flip(np.array([1.0, -1.0])) == 1
    # Of 8 sign patterns four have a sum as far from 0 as 2 + 1 - 0.5: +++ and ++-, and their mirrors.
    assert sign_flip(np.array([2.0, 1.0, -0.5])) == 4 / 8
    many = sign_flip(np.ones(40))
    assert 0 < many <= 1e-4
    assert sign_flip(np.tile([1.0, -1.0], 20)) == 1


def compared(chance):
    change = Difference(interval=Interval(mean=0, low=0, high=0), films=4, larger_leaks_more=True)
    return Comparison(setting=("net", "fedavg"), defence="d", metric="psnr", change=change, batches=4, chance=chance,
                      corrected=chance, needed=None)  # fmt: skip


def test_holm_corrects_step_by_step():
    found = holm([compared(p) for p in (0.01, 0.04, 0.03, 0.005)])
    # Holm 1979, by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before it.
    assert [one.corrected for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_protection_is_compared_on_the_same_films(log):
    (setting,) = (results := Results.read(log)).settings
    found = {one.defence: one for one in comparisons(results, setting)}
    assert set(found) == {QSGD, NOISE}
    assert found[QSGD].change.interval.mean == 0
    assert found[NOISE].change.interval.mean == -1
    assert found[NOISE].batches == 2
    # Two batches show nothing: even when both change alike, coins do so every second time.
    assert found[NOISE].chance == found[NOISE].least == 0.5
    assert found[NOISE].corrected == 1


@pytest.mark.parametrize(("shares", "needed"), [((0, 0), 15), ((1.0, 0.0), 769), ((0.5, 0.6), 8)])
def test_how_many_batches_a_precision_needs(shares, needed):
    films = tuple(Film(batch, f"f{batch}{place}") for batch in range(2) for place in range(4))
    values = np.repeat(np.array(shares, dtype=float), 4)
    measured = Values(metric="identification_top1", films=films, values=values, seeds=1, larger_leaks_more=True)
    assert batches_needed(measured) == needed


def test_the_matrix_holds_evidence_worst_first(log):
    results = Results.read(log)
    rows = residual_risks(results, judge(results))
    assert [row.status for row in rows] == [Status.BREACHED, Status.BREACHED, Status.NOT_BREACHED]
    assert all(len(row.cells) == len(RISKS) for row in rows)
    assert "up to 50 % of films beyond the control are not excluded" in rows[2].cells[0]
    assert "no formal guarantee: open" in rows[0].cells
    page = render(log)
    for text in ("What risk remains", "GDPR, Art. 35(7)(c)", "Data-protection officer", "Chance"):
        assert text in page


def test_every_question_points_at_a_section_of_the_page(log):
    page = render(log)
    sections = {question.section for question in QUESTIONS} - {None, "privacy", "utility", "inputs"}
    assert all(f'id="{section}"' in page for section in sections)


@pytest.mark.parametrize(
    ("threat", "letter"),
    [
        ({"server": "malicious", "public_data": True}, "G"),
        ({"server": "malicious"}, "F"),
        ({"public_data": True, "knows_protocol": True}, "D"),
        ({"knows_protocol": True}, "C"),
        ({}, "B"),
    ],
)
def test_the_attacker_is_placed_in_the_taxonomy(threat, letter):
    assert threat_class(threat).letter == letter
    assert beyond(threat) == ""
    assert "labels" in beyond(threat | {"knows_labels": True})


def test_every_attack_is_of_one_paradigm(log):
    load_rooms()
    iterating, recursive = PARADIGMS.values()
    assert iterating | recursive == {attack.name for attack in components("attack")}
    assert not iterating & recursive
    assert paradigms(["mine"]) == ""
    assert f"its attacks are {paradigms(Results.read(log).entries('attacks'))}" in render(log)


def test_the_twin_keeps_its_schema_and_says_what_the_report_says(log, tmp_path):
    jsonschema.Draft202012Validator.check_schema(schema())
    found = json.loads(to_json(log))
    jsonschema.validate(found, schema())
    assert [entry["status"] for entry in found["protections"]] == [v.status for v in judge(Results.read(log)).verdicts]
    trained = make(tmp_path / "trained", policy={"max_identification": 0.1, "max_loss": 0.1})
    trained.update(privacy=[budget("noise(std=1)", 8.0)])
    found = json.loads(to_json(trained))
    jsonschema.validate(found, schema())
    assert len(found["utility"]) == 5
    assert not all(ruling["passed"] for ruling in found["policy"]["rulings"])
    del found["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema())


def test_the_card_says_finding_guarantee_and_what_was_not_tested(log):
    card = render_card(log)
    assert card.startswith("## Privacy of the training updates\n")
    for text in ("1 of 2 protections was breached", "(3, 1e-5)-DP", "Not tested:", "ms\\_ssim", "Carletti"):
        assert text in card
    log.update(purpose=HOSTILE)
    assert "<script" not in render_card(log)


def test_the_pdf_has_the_whole_report_and_is_the_owners(log):
    pypdf = pytest.importorskip("pypdf")
    pytest.importorskip("weasyprint")
    path = write_pdf(log.directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pages = pypdf.PdfReader(io.BytesIO(path.read_bytes())).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert 2 < len(pages) < 60
    for words in ("1 of 2 protections was breached", "What risk remains", "Decision"):
        assert words in text


def test_originals_are_shown_only_where_the_audit_file_allows_them(log):
    assert "Original. The attacked film" in render(log)
    log.update(spec={})
    page = render(log)
    assert "Original. The attacked film" not in page
    assert "Reconstruction. What the attack" in page
    assert "the audit file does not allow them" in page


def test_a_purge_leaves_numbers_and_no_picture(log):
    (log.directory / "pseudonym.key").write_bytes(b"key")
    write_html(log.directory)
    rows = log.rows()
    found = purge(log)
    assert found.folders == 2
    again = Log.open(log.directory)
    assert again.rows() == rows
    left = {path.suffix or path.name for path in log.directory.rglob("*") if path.is_file()}
    assert left == {".json", ".jsonl"}
    page = render(again)
    assert "data:image/png" not in page
    assert f"purged on {datetime.now(UTC).date()}" in page
    with pytest.raises(LogProblem, match="was purged"):
        rescore(log.directory, {"use": "psnr"})


def test_a_run_that_goes_on_is_not_purged(log):
    log.update(status="running")
    with pytest.raises(LogProblem, match="goes on"):
        purge(log)
    assert log.has_victims(0)


def test_expired_runs_are_purged_and_others_are_kept(log):
    assert retained_until(log.header) is None
    kept = CliRunner().invoke(app, ["purge", str(log.directory), "--expired"])
    assert "Kept without a limit" in kept.output
    log.update(spec={"retention_days": 3}, created=datetime.now(UTC).isoformat())
    assert retained_until(log.header) == datetime.now(UTC).date() + timedelta(days=3)
    CliRunner().invoke(app, ["purge", str(log.directory), "--expired"])
    assert Log.open(log.directory).has_victims(0)
    log.update(created="2025-11-23T05:46:00+00:00")
    assert retained_until(log.header) == date(2025, 11, 26)
    gone = CliRunner().invoke(app, ["purge", str(log.directory), "--expired"])
    assert gone.exit_code == 0
    assert "2 batches of originals" in gone.output
    assert not Log.open(log.directory).has_victims(0)


@pytest.mark.parametrize("form", ["json", "md", "card"])
def test_the_report_is_written_in_the_form_that_is_asked_for(log, form):
    found = CliRunner().invoke(app, ["report", str(log.directory), "--format", form])
    written = {"json": to_json, "card": render_card}.get(form)
    assert found.exit_code == 0
    assert written is None or found.output == written(log)
