"""The audit's record on disk."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradiograph.core.errors import LogProblem
from gradiograph.core.records import Row
from gradiograph.core.seeds import numpy_stream
from gradiograph.log import Cell, Log, cell_id, pictures
from gradiograph.log.pictures import CONTROL, RECONSTRUCTION, png

CELL = Cell(
    id="c1", task="lenet", protocol="fedsgd", defence="none", attack="rog", control="none", batch=0, seed=7,
    seconds=1.5, num_bytes=4000, flags=("truncated",), objective=(2.0, 1.0),
)  # fmt: skip
ROW = Row(
    task="lenet", protocol="fedsgd", defence="none", attack="rog", control="none", batch=0, seed=7, record="aa",
    metric="psnr", value=20.25, larger_leaks_more=True,
)  # fmt: skip


def films(*shape, seed=0):
    return numpy_stream(seed, "films").random(shape or (2, 1, 8, 8), dtype=np.float32)


@pytest.fixture
def log(tmp_path):
    return Log.create(tmp_path / "run", {"name": "test", "status": "running"})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_cell_comes_back_as_it_was_written(log):
    images = films()
    rows = [ROW, replace(ROW, record="bb", value=1 / 3)]
    log.write_cell(CELL, rows, images)
    again = Log.open(log.directory)
    assert again.cells() == (CELL,)
    assert list(again.rows()) == rows
    np.testing.assert_array_equal(again.images("c1"), images)
    assert again.has_cell("c1")
    assert not again.has_cell("c2")


def test_a_picture_carries_a_mark_and_the_array_beside_it_none(log):
    images = films(2, 1, 8, 8)
    log.write_cell(CELL, [ROW], images)
    np.testing.assert_array_equal(log.images("c1"), images)
    picture = np.asarray(Image.open(log.directory / "cells" / "c1" / "1.png")).astype(int)
    own = np.kron(np.rint(images[1, 0] * 255), np.ones((32, 32))).astype(int)
    marked = picture != own
    assert np.abs(picture - own).max() == 70
    assert 0.02 < marked.mean() < 0.2
    halves = (marked[:128], marked[128:])
    assert all(half.any(axis=0).mean() > 0.7 for half in halves), "the mark spans the picture, twice"
    log.write_victims(0, ("a", "b"), ("ILL", "ILL"), images)
    original = np.asarray(Image.open(log.directory / "victims" / "0" / "1.png"))
    assert (original != picture).any()
    assert (original != own).any()


def test_float16_images_stay_float16_on_disk_and_come_back_as_float32(log):
    images = films().astype(np.float16)
    log.write_cell(CELL, [ROW], images)
    with np.load(log.directory / "cells" / "c1" / "images.npz") as stored:
        assert stored["images"].dtype == np.float16
    assert log.images("c1").dtype == np.float32


def test_a_cell_without_images_has_none(log):
    log.write_cell(CELL, [ROW], None)
    assert log.images("c1") is None


def test_colour_films_are_written_in_colour(log):
    images = films(1, 3, 5, 4)
    log.write_cell(CELL, [ROW], images)
    with Image.open(log.directory / "cells" / "c1" / "0.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (204, 255))


def test_victims_come_back_as_they_were_written(log):
    images = films()
    assert not log.has_victims(3)
    log.write_victims(3, ["aa", "bb"], ["NORMAL", "PNEUMONIA"], images)
    log.write_victims(3, ["other"], ["NORMAL"], films(1, 1, 8, 8))
    victims = Log.open(log.directory).victims(3)
    assert victims.records == ("aa", "bb")
    assert victims.labels == ("NORMAL", "PNEUMONIA")
    np.testing.assert_array_equal(victims.images, images)
    with pytest.raises(LogProblem, match="batch 4"):
        log.victims(4)


def test_everything_is_readable_by_its_owner_only(log):
    umask = os.umask(0)
    try:
        log.write_cell(CELL, [ROW], films())
        log.write_victims(0, ["aa", "bb"], ["A", "B"], films())
        log.export_csv()
        log.add_rows("c1", [replace(ROW, metric="mse", value=0.1)])
    finally:
        os.umask(umask)
    paths = [log.directory, *log.directory.rglob("*")]
    assert len(paths) > 10
    for path in paths:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path.name


def test_create_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "note").write_text("keep me")
    with pytest.raises(LogProblem, match="--resume") as caught:
        Log.create(tmp_path, {})
    assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / "note").read_text() == "keep me"
    with pytest.raises(LogProblem, match="--resume"):
        Log.create(tmp_path / "note", {})


def test_create_takes_an_empty_folder_and_closes_it_to_others(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir(mode=0o755)
    Log.create(folder, {"name": "x"})
    assert mode(folder) == 0o700


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no run"), ("{", "not valid JSON"), ("[]", "version None"), ('{"version": 99}', "version 99")],
)
def test_open_refuses_what_is_no_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "audit.json").write_text(content)
    with pytest.raises(LogProblem, match=message) as caught:
        Log.open(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_the_header_is_updated_on_disk_and_cannot_be_changed_in_passing(log):
    log.update(status="complete", error=None)
    log.header["status"] = "hacked"
    assert log.header["status"] == "complete"
    assert Log.open(log.directory).header == {"name": "test", "status": "complete", "error": None, "version": 1}


def test_a_half_written_cell_is_ignored_and_cleaned(log):
    log.write_cell(CELL, [ROW], films())
    half = log.directory / "cells" / ".tmp-c2"
    half.mkdir()
    (half / "rows.jsonl").write_text('{"broken')
    (log.directory / ".tmp-audit.json.0").write_text("{")
    assert len(log.cells()) == len(log.rows()) == 1
    again = Log.open(log.directory)
    assert again.cells() == (CELL,)
    assert not list(log.directory.rglob(".tmp-*"))


def test_what_a_living_process_is_writing_is_left_alone(log):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as writer:
        half = log.directory / "cells" / f".tmp-c2.{writer.pid}"
        half.mkdir(parents=True)
        Log.open(log.directory)
        assert half.is_dir()
        writer.communicate(b"\n")
    Log.open(log.directory)
    assert not half.exists()


def test_a_write_that_fails_leaves_no_trace(log, monkeypatch):
    def fail(image, largest=None):
        raise OSError("disk full")

    monkeypatch.setattr(pictures, "png", fail)
    with pytest.raises(OSError, match="disk full"):
        log.write_cell(CELL, [ROW], films())
    assert not log.has_cell("c1")
    assert list((log.directory / "cells").iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused(log, value):
    with pytest.raises(ValueError, match="finite"):
        log.write_cell(CELL, [replace(ROW, value=value)], None)
    assert not log.has_cell("c1")


def test_a_cell_is_written_once(log):
    log.write_cell(CELL, [ROW], None)
    with pytest.raises(LogProblem, match="already"):
        log.write_cell(CELL, [], None)
    assert log.rows() == (ROW,)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".tmp-x"])
def test_an_id_cannot_leave_the_folder(log, name):
    with pytest.raises(ValueError, match="id"):
        log.write_cell(replace(CELL, id=name), [ROW], None)


def test_add_rows_replaces_the_metric_and_keeps_the_others(log):
    log.write_cell(CELL, [ROW, replace(ROW, metric="mse", value=0.5), replace(ROW, metric="mse", record="bb")], None)
    new = [replace(ROW, metric="mse", value=0.25), replace(ROW, metric="ssim", value=0.9)]
    log.add_rows("c1", new)
    assert {(row.metric, row.record, row.value) for row in log.rows()} == {
        ("psnr", "aa", 20.25), ("mse", "aa", 0.25), ("ssim", "aa", 0.9)
    }  # fmt: skip
    with pytest.raises(LogProblem, match="not in the log"):
        log.add_rows("c9", new)
    with pytest.raises(LogProblem, match="not in the log"):
        log.images("c9")


def test_the_order_does_not_depend_on_the_order_of_the_run(tmp_path):
    cells = [replace(CELL, id=f"c{seed}{batch}", seed=seed, batch=batch) for seed in (8, 7) for batch in (10, 2)]
    logs = []
    for name, order in (("forwards", cells), ("backwards", cells[::-1])):
        log = Log.create(tmp_path / name, {})
        for cell in order:
            rows = [replace(ROW, batch=cell.batch, seed=cell.seed, record=record) for record in ("bb", "aa")]
            log.write_cell(cell, rows, None)
        logs.append(log)
    assert logs[0].rows() == logs[1].rows()
    assert [(cell.batch, cell.seed) for cell in logs[0].cells()] == [(2, 7), (2, 8), (10, 7), (10, 8)]
    assert logs[0].cells() == logs[1].cells()
    assert logs[0].export_csv().read_bytes() == logs[1].export_csv().read_bytes()


def test_the_csv_has_the_documented_header_and_quotes_what_it_must(log):
    log.write_cell(replace(CELL, defence='a,"b"'), [replace(ROW, defence='a,"b"\u2028\n', value=0.1)], None)
    path = log.export_csv()
    header = "task,protocol,defence,attack,control,batch,seed,record,metric,value,larger_leaks_more,round"
    assert path.name == "rows.csv"
    assert path.read_text(encoding="utf-8").split("\n")[0] == header
    with path.open(newline="", encoding="utf-8") as file:
        (entry,) = csv.DictReader(file)
    assert entry["defence"] == 'a,"b"\u2028\n'
    assert (float(entry["value"]), entry["larger_leaks_more"]) == (0.1, "true")


def test_numpy_values_are_written_as_numbers(log):
    log.write_cell(CELL, [replace(ROW, value=np.float32(0.5))], None)
    line = (log.directory / "cells" / "c1" / "rows.jsonl").read_text()
    assert json.loads(line)["value"] == 0.5


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers() | st.text(), min_size=1, max_size=4))
def test_the_id_of_a_cell_changes_with_every_part_and_not_with_their_order(key):
    backwards = dict(reversed(key.items()))
    assert cell_id(**key) == cell_id(**backwards)
    for name in key:
        assert cell_id(**key) != cell_id(**key | {name: [key[name]]})


def test_log_and_report_run_without_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import gradiograph.log, gradiograph.report\n"
        "assert not any(name.split('.')[0] in ('torchvision', 'monai') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_control_is_marked_as_one(tmp_path):
    """A public film that stands in for the attacked one is no reconstruction."""
    images = np.full((1, 1, 64, 64), 0.4, dtype=np.float32)
    pictures = {}
    for control in ("none", "stock_film"):
        log = Log.create(tmp_path / control, {"spec": {}})
        cell = Cell(id="c1", task="t", protocol="p", defence="none", attack="a", control=control, batch=0, seed=7)
        log.write_cell(cell, (), images)
        pictures[control] = (log.directory / "cells" / "c1" / "0.png").read_bytes()
    assert pictures == {"none": png(images[0], RECONSTRUCTION), "stock_film": png(images[0], CONTROL)}
    assert pictures["none"] != pictures["stock_film"]
