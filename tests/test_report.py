"""The report: verdicts on planted cases, and what the page must and must not hold."""

from __future__ import annotations

import re
import shutil
import stat
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from gradiograph.core.errors import LogProblem
from gradiograph.core.records import Row
from gradiograph.core.seeds import numpy_stream
from gradiograph.log import Cell, Log, cell_id
from gradiograph.report import Results, judge, open_log, render, render_markdown, write_html
from gradiograph.report.tables import blocks
from gradiograph.report.verdict import Status
from gradiograph.report.wording import measure

TASK, PROTOCOL, QSGD, NOISE = "lenet", "fedsgd", "qsgd(levels=16)", "top_k + gaussian_noise(std=0.1)"
RECORDS = (("aa1", "aa2", "aa3"), ("bb1", "bb2", "bb3"))
DIRECTIONS = {"identification_top1": True, "identification_rank": False, "lpips": False, "psnr": True}
HEADER = {
    "status": "complete", "error": None, "name": "A test audit", "purpose": "testing", "authorised_by": "The tester",
    "command": "gradiograph run audit.toml", "created": "2025-11-23T05:46:00+00:00",
    "spec": {
        "name": "A test audit", "show_originals": True, "seeds": [7, 8], "nothing": None,
        "list": [{"use": "x", "y": None}],
    },
    "defaults": ["victims.split = test"], "environment": {"python": "3.11", "gradiograph": "0.1.0"},
    "data": {
        "victims": "invented films", "public": "more of them", "gallery": "others",
        "films_per_class": {"NORMAL": 9}, "gallery_per_class": {"NORMAL": 99}, "classes": ["NORMAL", "ILL"],
    },
    "threat": {"server": "honest_but_curious", "knows_labels": True, "unheard_of": 3},
    "tasks": [{"label": TASK, "detail": "", "mode": "eval", "parameters": 12345, "trainable_parameters": 12000}],
    "protocols": [{"label": PROTOCOL, "detail": ""}],
    "defences": [{"label": name, "detail": "d", "guarantee": None} for name in ("none", QSGD)]
    + [{"label": NOISE, "detail": "d", "guarantee": "(3, 1e-5)-DP"}],
    "attacks": [{"label": name, "detail": "", "paper": "Paper 2020"} for name in ("rog", "dlg")],
    "metrics": [{"name": name, "unit": "", "larger_leaks_more": larger} for name, larger in DIRECTIONS.items()],
    "not_measured": [{"what": "ms_ssim", "why": "the films are too small"}],
    "cells_total": 0,
}  # fmt: skip


def scores(level, **changed):
    """The metrics of a reconstruction that shows `level` of the film."""
    values = {
        "identification_top1": float(level > 0.5), "identification_rank": 1 + round(90 * (1 - level)),
        "lpips": 0.6 * (1 - level), "psnr": 10 + 30 * level,
    }  # fmt: skip
    return values | changed


class Writer:
    """Plants results in a log."""

    def __init__(self, directory, **header):
        self.log = Log.create(directory, HEADER | header)
        self.films = [numpy_stream(batch, "films").random((3, 1, 16, 16), dtype=np.float32) for batch in range(2)]

    def victims(self, label="NORMAL"):
        for batch, images in enumerate(self.films):
            self.log.write_victims(batch, RECORDS[batch], [label] * 3, images)
        return self

    def cell(self, batch, seed, values, *, images=True, flags=(), **key):
        key = {"task": "", "protocol": "", "defence": "", "attack": "", "control": "none"} | key
        key |= {"batch": batch, "seed": seed}
        rows = [
            Row(**key, record=record, metric=name, value=value, larger_leaks_more=DIRECTIONS.get(name, True))
            for record in RECORDS[batch]
            for name, value in values.items()
        ]
        objective = (3.0, 2.0, 1.5) if key["attack"] and key["control"] == "none" else ()
        cell = Cell(id=cell_id(**key), **key, seconds=1.0, num_bytes=1000, flags=flags, objective=objective)
        self.log.write_cell(cell, rows, self.films[batch] if images else None)

    def attack(self, defence, level, *, attack="rog", control=0.1, flags=(), drop=(), task=TASK, links=()):
        place = {"task": task, "protocol": PROTOCOL, "defence": defence, "attack": attack}
        for seed in (7, 8):
            for batch in range(2):
                for kind, shown in (("none", level), ("mismatched_update", control)):
                    if shown is not None:
                        kept = {name: value for name, value in scores(shown).items() if name not in drop}
                        kept |= dict.fromkeys(links, float(kind == "none"))
                        self.cell(batch, seed, kept, **place, control=kind, flags=flags)
        return self

    def references(self, **changed):
        for seed in (7, 8):
            for batch in range(2):
                for control in ("stock_film", "mean_film"):
                    self.cell(batch, seed, scores(0.2, **changed), control=control)
        return self

    def done(self):
        self.log.update(cells_total=len(self.log.cells()))
        return self.log


@pytest.fixture
def writer(tmp_path):
    return Writer(tmp_path / "run")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A complete run; only to be read."""
    writer = Writer(tmp_path_factory.mktemp("full") / "run").victims()
    writer.references().attack("none", 0.9).attack("none", 0.8, attack="dlg", flags=("truncated",))
    writer.attack(QSGD, 0.7).attack(NOISE, 0.1).attack(NOISE, 0.1, attack="dlg")
    return writer.done()


@pytest.fixture(scope="module")
def page_text(full):
    return render(full)


@pytest.fixture
def own(full, tmp_path):
    """A copy of the complete run, to be changed."""
    return Log.open(shutil.copytree(full.directory, tmp_path / "own"))


def verdicts(log):
    return {verdict.defence: verdict for verdict in judge(Results.read(log)).verdicts}


def test_planted_verdicts_worst_first(full):
    found = judge(Results.read(full))
    assert [(v.defence, v.status) for v in found.verdicts] == [
        (QSGD, Status.BREACHED), ("none", Status.BREACHED), (NOISE, Status.NOT_BREACHED)
    ]  # fmt: skip
    assert found.headline == "1 of 2 protections was breached."
    assert "all of 6 films" in found.verdicts[0].sentence
    assert "identified" in found.verdicts[0].worst
    assert "Film aa1" in found.verdicts[0].worst


def test_nothing_is_breached(writer):
    log = writer.attack("none", 0.9).attack(NOISE, 0.1).done()
    found = judge(Results.read(log))
    assert found.headline == "The protection was not breached by these attacks."
    assert "no proof" in found.meaning


def test_an_attack_that_fails_without_protection_makes_the_audit_inconclusive(writer):
    log = writer.attack("none", 0.1).attack(NOISE, 0.1).done()
    assert {v.status for v in verdicts(log).values()} == {Status.INCONCLUSIVE}
    found = judge(Results.read(log))
    assert found.headline == "Inconclusive."
    reason = "The attacks did not succeed even without protection, so their failure under a protection says nothing."
    assert found.meaning == reason
    assert reason in verdicts(log)[NOISE].sentence


def test_a_breach_counts_even_where_the_baseline_fails(writer):
    log = writer.attack("none", 0.1).attack(QSGD, 0.9).done()
    assert verdicts(log)[QSGD].status is Status.BREACHED
    assert judge(Results.read(log)).headline == "The protection was breached."


def test_without_a_baseline_or_a_control_nothing_can_be_said(tmp_path):
    no_baseline = Writer(tmp_path / "a").attack(NOISE, 0.1).done()
    assert verdicts(no_baseline)[NOISE].status is Status.INCONCLUSIVE
    no_control = Writer(tmp_path / "b").attack("none", 0.9, control=None).done()
    assert verdicts(no_control)["none"].status is Status.INCONCLUSIVE
    assert "control" in verdicts(no_control)["none"].sentence


def test_a_control_that_does_as_well_is_no_breach(writer):
    log = writer.attack("none", 0.9).attack(QSGD, 0.9, control=0.9).done()
    assert verdicts(log)[QSGD].status is Status.NOT_BREACHED


def test_without_identification_fidelity_judges(writer):
    drop = ("identification_top1", "identification_rank")
    log = writer.attack("none", 0.9, drop=drop).attack(NOISE, 0.1, drop=drop).done()
    found = verdicts(log)
    assert (found["none"].status, found[NOISE].status) == (Status.BREACHED, Status.NOT_BREACHED)
    assert "PSNR" in found["none"].sentence


def test_one_film_has_no_interval_and_so_no_verdict_by_fidelity(writer):
    for control, psnr in (("none", 30.0), ("mismatched_update", 10.0)):
        key = {"task": TASK, "protocol": PROTOCOL, "defence": "none", "attack": "rog", "control": control}
        row = Row(**key, batch=0, seed=7, record="aa1", metric="psnr", value=psnr, larger_leaks_more=True)
        writer.log.write_cell(Cell(id=control, **key, batch=0, seed=7), [row], None)
    assert verdicts(writer.done())["none"].status is Status.INCONCLUSIVE


def test_the_strongest_attack_speaks_for_a_defence(writer):
    log = writer.attack("none", 0.1).attack("none", 0.9, attack="dlg").done()
    assert verdicts(log)["none"].finding.attack == "dlg"


def test_a_leak_short_of_identification_is_said(writer):
    log = writer.attack("none", 0.9).attack(NOISE, 0.4, control=0.1).done()
    found = verdicts(log)[NOISE]
    assert found.status is Status.NOT_BREACHED
    assert any("Something of the patient does leak: by PSNR" in note for note in found.notes)


@pytest.mark.parametrize("link", ["reidentification_top1", "patient_identification_top1"])
def test_a_picture_that_is_linked_to_its_film_or_patient_is_a_breach_however_it_looks(writer, link):
    log = writer.attack("none", 0.9).attack(NOISE, 0.1).attack(QSGD, 0.1, links=[link]).done()
    found = verdicts(log)
    assert (found[NOISE].status, found[QSGD].status) == (Status.NOT_BREACHED, Status.BREACHED)
    assert f"{measure(link).title}, rog: all of 6 films" in found[QSGD].sentence
    assert "control: 0 of 6 films" in found[QSGD].sentence
    results = Results.read(log)
    table = {block.defence: block.lines[0].breached for block in blocks(results, results.settings[0], ["psnr"])}
    assert table == {"none": True, NOISE: False, QSGD: True}


def test_no_table_of_measures_is_wider_than_a_page_of_paper(writer):
    names = [f"attribute_{letter}_agreement" for letter in "abcdefg"]
    shown = [{"name": name, "unit": "", "larger_leaks_more": True} for name in names]
    writer.log.update(metrics=[*HEADER["metrics"], *shown])
    writer.attack("none", 0.9, links=names)
    tables = re.findall(r'<table class="leakage">.*?</thead>', render(writer.done()), flags=re.S)
    widths = [table.count('<th scope="col" class="num">') for table in tables]
    assert max(widths) <= 5
    assert sum(widths) >= len(names)
    assert any("Attribute g, the same" in table for table in tables)


def test_flags_are_put_in_words(writer):
    log = writer.attack("none", 0.95, flags=("truncated", "approximate", "odd")).done()
    notes = verdicts(log)["none"].notes
    assert any("fewer steps" in note for note in notes)
    assert any("replay" in note for note in notes)
    assert "Flag: odd." in notes


def test_an_lpips_no_better_than_a_stock_film_is_called_worthless(tmp_path):
    worthless = Writer(tmp_path / "a").references(lpips=0.05).attack("none", 0.9).done()
    assert any("worth nothing" in note for note in verdicts(worthless)["none"].notes)
    fine = Writer(tmp_path / "b").references(lpips=0.5).attack("none", 0.9).done()
    assert not any("worth nothing" in note for note in verdicts(fine)["none"].notes)


def test_no_verdict_says_safe(full, page_text):
    for text in (page_text, render_markdown(full)):
        words = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", text, flags=re.S)
        assert not re.search(r"\b(safe|safely|secure|private)\b(?! aggregation)", words)


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.stack, self.unbalanced, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in {"meta", "img", "br"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_what_it_must(page_text):
    page = Page(page_text)
    for part in (
        "A test audit", "testing", "The tester", "2025-11-23", "How to read this", "6 films in 2 batches, 2 seeds",
        "1 of 2 protections was breached",
        "12,000 of 12,345 parameters", "1 kB", "Formal guarantee: no", "(3, 1e-5)-DP", "Stock film", "Mean film",
        "ms_ssim", "the films are too small", "gradiograph run audit.toml", "victims.split = test", "unheard_of = 3",
        "truncated", "here 1 %", 'name = "A test audit"',
    ):  # fmt: skip
        assert part in page.text, part
    assert "Incomplete" not in page.text


def test_the_page_is_well_formed_and_fetches_nothing(page_text):
    page = Page(page_text)
    assert page.unbalanced == page.stack == []
    assert "script" not in page.tags
    assert not {"link", "iframe", "object"} & set(page.tags)
    targets = [value for _, name, value in page.attributes if name in {"src", "href", "xlink:href", "action"}]
    assert len(targets) > 10
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)


def test_pictures_and_tables_speak_to_a_screen_reader(page_text):
    text = page_text
    images = re.findall(r"<img[^>]*>", text)
    assert len(images) > 20
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert text.count("<table") == text.count("<caption>")
    assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", text))
    assert text.count("<svg") == text.count('role="img"') == 2


def test_a_picture_carries_its_own_films_numbers(page_text):
    strip = page_text.partition('<section id="pictures"')[2].partition("</section>")[0]
    assert "Leaked most: film aa1, NORMAL" in strip
    assert "PSNR 37.0 dB" in strip


HOSTILE = """</style><script>alert("x")</script><img src=http://x onerror='y'>$\\frac & "q" --> ]]>"""


def test_hostile_text_brings_in_no_markup(tmp_path):
    changed = dict.fromkeys(("name", "purpose", "authorised_by", "command", "created", "error"), HOSTILE)
    entry = {"label": HOSTILE, "detail": HOSTILE, "paper": HOSTILE, "guarantee": HOSTILE, "mode": HOSTILE}
    entry |= {"parameters": 1, "trainable_parameters": 1}
    changed |= {kind: [entry] for kind in ("tasks", "protocols", "defences", "attacks")}
    changed |= {
        "status": HOSTILE, "spec": {HOSTILE: HOSTILE}, "defaults": [HOSTILE], "environment": {HOSTILE: HOSTILE},
        "data": {"victims": HOSTILE, "classes": [HOSTILE]}, "threat": {HOSTILE: HOSTILE},
        "metrics": [{"name": HOSTILE, "unit": HOSTILE, "larger_leaks_more": True}],
        "not_measured": [{"what": HOSTILE, "why": HOSTILE}],
    }  # fmt: skip
    writer = Writer(tmp_path / "run", **changed).victims(HOSTILE)
    for defence in ("none", HOSTILE):
        place = {"task": HOSTILE, "protocol": HOSTILE, "defence": defence, "attack": HOSTILE}
        for control in ("none", "mismatched_update"):
            writer.cell(0, 7, scores(0.9) | {HOSTILE: 1.0}, **place, control=control, flags=(HOSTILE,))
    text = render(writer.done())
    page = Page(text)
    assert "script" not in page.tags
    assert not [value for _, name, value in page.attributes if name.startswith("on")]
    assert 'src="http' not in text
    assert text.count("</style>") == 1 + text.count("<svg")
    assert page.unbalanced == page.stack == []
    assert "<" not in render_markdown(writer.log)


def test_the_figures_are_valid_xml_and_deterministic(full, page_text):
    first = page_text
    assert render(Log.open(full.directory)) == first
    figures = re.findall(r"<svg.*?</svg>", first, flags=re.S)
    assert len(figures) == 2
    for figure in figures:
        ET.fromstring(figure)  # noqa: S314 - our own figure


def test_a_run_without_results_is_refused(writer):
    for write in (render, render_markdown):
        with pytest.raises(LogProblem, match="no results"):
            write(writer.log)
    with pytest.raises(LogProblem, match="no results"):
        write_html(writer.log.directory)
    assert not (writer.log.directory / "report.html").exists()


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run_says_so(own, status):
    own.update(status=status, cells_total=100, error="It broke." if status == "failed" else None)
    text = Page(render(own)).text
    assert f"Incomplete: {len(own.cells())} of 100 cells." in text
    assert ("It broke." in text) == (status == "failed")
    assert "Incomplete" in render_markdown(own)


def test_a_run_cut_short_anywhere_can_be_rendered(tmp_path):
    # Controls before attacks, attacks before their controls, no victims, no pictures, no header to speak of.
    writer = Writer(tmp_path / "run", status="running", cells_total=50)
    writer.cell(0, 7, scores(0.2), control="stock_film")
    assert "Inconclusive" in render(writer.log) or "No result" in render(writer.log)
    writer.cell(0, 7, scores(0.9), images=False, task=TASK, protocol=PROTOCOL, defence=QSGD, attack="rog")
    assert "No result without protection" in render(writer.log)
    bare = Log.create(tmp_path / "bare", {})
    for cell in writer.log.cells():
        bare.write_cell(cell, [row for row in writer.log.rows() if row.attack == cell.attack], None)
    assert "not stated" in render(bare)


def test_the_file_is_its_owners_only(own, page_text):
    path = write_html(own.directory)
    assert path == own.directory / "report.html"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == page_text


def test_several_set_ups_have_a_table_each(writer):
    writer.attack("none", 0.9).attack("none", 0.1, task="resnet")
    text = render(writer.done())
    assert "In 1 of 2 set-ups they do not" in text
    assert text.count('<table class="leakage">') == 4
    ids = [value for _, name, value in Page(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_markdown_has_the_verdict_and_a_row_per_attack(full):
    text = render_markdown(open_log(full.directory))
    assert "**1 of 2 protections was breached.**" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5 + 2
    assert len({line.count(" | ") for line in table if "---" not in line}) == 1


def test_ten_thousand_rows_can_be_rendered(writer):
    row = Row(
        task=TASK, protocol=PROTOCOL, defence="none", attack="rog", control="none", batch=0, seed=7, record="aa1",
        metric="psnr", value=20.0, larger_leaks_more=True,
    )  # fmt: skip
    for defence in ("none", *(f"qsgd(levels={n})" for n in range(9))):
        for control in ("none", "mismatched_update"):
            values = numpy_stream(1, defence, control).random((100, 5))
            rows = [
                replace(row, defence=defence, control=control, record=f"r{i}", metric=name, value=float(values[i, j]))
                for i in range(100)
                for j, name in enumerate(("identification_top1", "lpips", "ssim", "psnr", "mse"))
            ]
            cell = Cell(
                id=cell_id(d=defence, c=control), task=TASK, protocol=PROTOCOL, defence=defence, attack="rog",
                control=control, batch=0, seed=7,
            )  # fmt: skip
            writer.log.write_cell(cell, rows, None)
    assert len(writer.log.rows()) == 10_000
    assert "qsgd(levels=8)" in render(writer.done())


BUDGET = {
    "site": "site 0", "unit": "image", "delta": 1e-5, "epsilon": 7.996, "kind": "tight", "difference": 0.012,
    "values": {"Opacus PRV": 8.008, "dp-accounting PLD": 7.996}, "group": 3, "group_epsilon": 31.5, "claimed": 8.0,
}  # fmt: skip
PRIVACY = {
    "protocol": PROTOCOL, "defence": NOISE, "noise_multiplier": 0.5, "trained": [BUDGET, BUDGET | {"epsilon": 6.0}],
    "attacked": [BUDGET | {"group": 1}], "films": 100, "identification_bound": 0.256, "membership_advantage": 0.31,
    "meaning": ["Shown 100 films.", "Asked whether."],
}  # fmt: skip


def test_a_formal_guarantee_says_yes_which_of_whom_by_whose_account_and_what_it_bounds(tmp_path):
    writer = Writer(tmp_path / "run", privacy=[PRIVACY]).victims().attack("none", 0.9).attack(NOISE, 0.3)
    page, text = render(writer.log), render_markdown(writer.log)
    for told in (
        "yes: (3, 1e-5)-DP Accounted: epsilon 7.996 of one image at delta 1e-05",
        "Opacus PRV 8.008, dp-accounting PLD 7.996; difference 0.012",
        "31.5 of a patient with 3",
        "25.6 % of 100 films",
        "Shown 100 films. Asked whether.",
    ):
        assert told in page
        assert told in text
    assert "What is guaranteed" in page
    assert "What is guaranteed" not in render(Writer(tmp_path / "bare").victims().attack("none", 0.9).log)
