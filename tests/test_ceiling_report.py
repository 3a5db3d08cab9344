"""What the report says of the ceiling: sentences on planted numbers, and no trace of it in any other figure."""

from __future__ import annotations

import re

import pytest

from gradiograph.core.records import Row
from gradiograph.log import Cell, cell_id
from gradiograph.report import Results, judge, render, render_markdown
from gradiograph.report.ceiling import ceilings
from gradiograph.report.diagnosis import Diagnosis, Ending, describe_spectrum, diagnose
from gradiograph.report.results import Setting
from gradiograph.report.tables import columns
from test_report import NOISE, PROTOCOL, TASK, Writer, scores


def told(attack, ceiling, at_film=0.0, control=0.05, gained=1.0):
    endings = [Ending(objective=objective, error=error) for objective, error in (attack, ceiling)]
    return diagnose(attack=endings[0], ceiling=endings[1], at_film=at_film, control=control, gained=gained)


def test_a_search_that_fails_is_told_from_an_objective_that_does_not_hold_the_patient():
    assert told((0.3, 0.05), (0.1, 0.01)) is Diagnosis.SEARCH_FAILED
    assert told((0.3, 0.05), (0.1, 0.06), at_film=0.2) is Diagnosis.OBJECTIVE_BLIND
    assert told((0.3, 0.05), (0.1, 0.06), at_film=0.05) is Diagnosis.FILM_LEFT
    assert told((0.1, 0.011), (0.1, 0.01)) is Diagnosis.FOUND
    assert told((0.1, 0.05), (0.1, 0.01)) is Diagnosis.UNDECIDED


def test_objectives_differ_only_by_more_than_a_share_of_what_the_search_gained():
    assert told((0.300, 0.05), (0.295, 0.01), gained=1.0) is Diagnosis.UNDECIDED
    assert told((0.300, 0.05), (0.295, 0.01), gained=0.1) is Diagnosis.SEARCH_FAILED
    assert told((-3.10, 0.05), (-3.20, 0.01), gained=1.0) is Diagnosis.SEARCH_FAILED


def test_where_the_objective_at_the_film_is_unknown_the_attacks_stands_in():
    assert told((0.3, 0.05), (0.3, 0.06), at_film=None) is Diagnosis.OBJECTIVE_BLIND
    assert told((0.3, 0.05), (0.5, 0.06), at_film=None) is Diagnosis.FILM_LEFT


def test_the_spectrum_in_words():
    assert "says nothing" in describe_spectrum([0, 0], 64, 12.0, is_linear=True)
    text = describe_spectrum([3, 8, 5], 64, 2.5, is_linear=False)
    assert "5 of its 64" in text
    assert "3 to 8" in text
    assert "rough" in text
    assert "rough" not in describe_spectrum([3], 64, 2.5, is_linear=True)


class CeilingWriter(Writer):
    """Plants a ceiling of batch 0, seed 7, better than any attack."""

    def ceiling(self, defence, level=1.0, objective=(2.5, 0.5), visible=20):
        place = {"task": TASK, "protocol": PROTOCOL, "defence": defence}
        for control, shown, values in (
            ("ceiling_10", level, objective), ("ceiling_truth", 1.0, (0.4,)), ("ceiling_spectrum", 0.6, ())
        ):  # fmt: skip
            attack = "" if control == "ceiling_spectrum" else "rog"
            own = {"visible_directions": visible, "probed_directions": 64, "condition_log10": 3.0} if not attack else {}
            self.oracle(scores(shown) | own, values, **place, attack=attack, control=control)
        return self

    def oracle(self, values, objective, **key):
        key |= {"batch": 0, "seed": 7}
        records = ("aa1", "aa2", "aa3")
        rows = [
            Row(**key, record=record, metric=name, value=value, larger_leaks_more=True)
            for record in records
            for name, value in values.items()
        ]
        self.log.write_cell(Cell(id=cell_id(**key), **key, objective=objective), rows, self.films[0])


@pytest.fixture
def writer(tmp_path):
    return CeilingWriter(tmp_path / "run").victims().references().attack("none", 0.9).attack(NOISE, 0.1)


def test_the_oracle_is_in_no_other_figure(writer):
    plain = judge(Results.read(writer.done()))
    before = [(v.status, v.sentence, v.worst, v.finding) for v in plain.verdicts]
    page, text = render(writer.log), render_markdown(writer.log)
    writer.ceiling("none").ceiling(NOISE).done()
    after = judge(Results.read(writer.log))
    assert [(v.status, v.sentence, v.worst, v.finding) for v in after.verdicts] == before
    assert (after.headline, after.meaning) == (plain.headline, plain.meaning)
    shown = render(writer.log)
    pattern = re.compile(r'<table class="leakage">.*?</table>', flags=re.S)
    assert [table for table in pattern.findall(shown) if "Ceiling (oracle)" not in table] == pattern.findall(page)
    figures = re.compile(r"<svg.*?</svg>", flags=re.S)
    assert figures.findall(shown) == figures.findall(page)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [line for line in render_markdown(writer.log).splitlines() if line.startswith("|")][: len(rows)]
    assert Results.read(writer.log).complete


def test_the_table_holds_the_searches_with_their_objectives(writer):
    log = writer.ceiling(NOISE).done()
    results = Results.read(log)
    (block,) = ceilings(results, Setting(TASK, PROTOCOL), columns(results)[0])
    assert block.defence == NOISE
    assert [(line.name, line.start, line.end) for line in block.lines] == [
        ("rog", "", "1.5"),
        ("rog, begun at the film with 10 % of another", "2.5", "0.5"),
        ("the film itself, as rog can show it", "", "0.4"),
        ("the mean film with the visible directions of the film", "", ""),
    ]
    identified = [line.entries[0].mean for line in block.lines]
    assert identified == ["0 %", "100 %", "100 %", "100 %"]
    assert "20 of its 64" in block.sentences[0]
    assert block.sentences[1] == f"rog: {Diagnosis.SEARCH_FAILED.value}"


def test_the_verdict_says_what_the_ceiling_found(writer):
    log = writer.ceiling(NOISE, level=0.05, objective=(0.4, 0.3)).done()
    notes = {verdict.defence: verdict.notes for verdict in judge(Results.read(log)).verdicts}
    assert any(Diagnosis.OBJECTIVE_BLIND.value in note for note in notes[NOISE])
    assert not any("Ceiling" in note for note in notes["none"])


def test_a_drift_that_beats_only_the_mismatched_control_is_a_drift(writer):
    """The mismatched control shows 10 % of the film, the stock film 20 %."""
    log = writer.ceiling(NOISE, level=0.15, objective=(0.4, 0.3)).done()
    (block,) = ceilings(Results.read(log), Setting(TASK, PROTOCOL), ("psnr",))
    assert block.sentences[1] == f"rog: {Diagnosis.OBJECTIVE_BLIND.value}"


def test_a_ceiling_cut_short_can_be_rendered(writer):
    place = {"task": TASK, "protocol": PROTOCOL, "defence": "none", "attack": "rog"}
    writer.oracle(scores(0.9), (), **place, control="ceiling_30")
    page = render(writer.done())
    assert "begun at the film with 30 %" in page
    assert not any(diagnosis.value in page for diagnosis in Diagnosis)
    assert "Incomplete" not in page
    assert page.count("<table") == page.count("<caption>")


def test_without_a_ceiling_none_is_shown(writer):
    assert "Ceiling" not in render(writer.done())
    assert "Ceiling" not in render_markdown(writer.log)
