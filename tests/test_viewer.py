"""The viewer: this machine only, behind its token, with nothing that the audit file does not allow."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import subprocess
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from gradiograph.core.errors import LogProblem
from gradiograph.log import purge
from gradiograph.report import Viewer
from gradiograph.report.viewer.films import KINDS
from test_report import HOSTILE, NOISE, Writer


@pytest.fixture
def log(tmp_path):
    return Writer(tmp_path / "run", name=HOSTILE).victims().references().attack("none", 0.9).attack(NOISE, 0.1).done()


@pytest.fixture
def open_viewer():
    running = []

    def start(directory):
        viewer = Viewer(directory)
        thread = threading.Thread(target=viewer.serve)
        thread.start()
        running.append((viewer, thread))
        return viewer

    yield start
    for viewer, thread in running:
        viewer.close()
        thread.join()


def get(viewer, path, host=None):
    place = urlsplit(viewer.link)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_films_and_pictures_are_there_with_the_token_only(log, open_viewer):
    viewer = open_viewer(log.directory)
    own = urlsplit(viewer.link)
    assert own.hostname == "127.0.0.1"
    answer, content = get(viewer, own.path + "films.json")
    listing = json.loads(content)
    assert answer.status == 200
    assert len(listing["entries"]) == 2 * 6 * 2
    assert listing["name"] == HOSTILE
    first = listing["entries"][0]
    for kind in KINDS:
        answer, content = get(viewer, f"{own.path}picture/{first['cell']}/{first['record']}/{kind}")
        assert answer.getheader("Content-Type") == "image/png"
        assert Image.open(io.BytesIO(content)).size == (256, 256)
    for path in ("/", "/films.json", f"/{'x' * 32}/films.json", own.path + "../films.json", own.path + "audit.json"):
        assert get(viewer, path)[0].status == 404
    # A page elsewhere whose name was pointed at this machine has another host.
    assert get(viewer, own.path, host="evil.example")[0].status == 404


def test_the_difference_is_that_of_the_arrays(log, open_viewer):
    viewer = open_viewer(log.directory)
    cell = next(cell for cell in log.cells() if cell.attack and cell.control == "none")
    record = log.victims(cell.batch).records[1]
    _, content = get(viewer, f"{urlsplit(viewer.link).path}picture/{cell.id}/{record}/difference")
    # The planted reconstruction is the film itself: all that is seen is the mark.
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert (shown.min(), np.median(shown), shown.max()) == (0, 0, 70)


def test_originals_stay_unseen_where_the_audit_file_does_not_allow_them(log, open_viewer):
    log.update(spec={})
    viewer = open_viewer(log.directory)
    place = urlsplit(viewer.link).path
    first = json.loads(get(viewer, place + "films.json")[1])["entries"][0]
    status = {kind: get(viewer, f"{place}picture/{first['cell']}/{first['record']}/{kind}")[0].status for kind in KINDS}
    assert status == {"reconstruction": 200, "original": 404, "difference": 404, "control": 200, "stock": 200}


def test_unknown_cells_records_and_kinds_are_not_found(log, open_viewer):
    viewer = open_viewer(log.directory)
    place = urlsplit(viewer.link).path
    cell = log.cells()[0].id
    for path in (f"{cell}/zz/original", "..%2F..%2Fvictims/aa1/original", f"{cell}/aa1/weights", "a/b"):
        assert get(viewer, f"{place}picture/{path}")[0].status == 404


def test_a_purged_run_has_nothing_to_view(log):
    purge(log)
    with pytest.raises(LogProblem, match="was purged"):
        Viewer(log.directory)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_lists_the_films_sorted_by_leak_and_brings_in_no_markup(log, open_viewer, tmp_path):
    viewer = open_viewer(log.directory)
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    command = ["chromium", "--headless", "--no-sandbox", *quiet, f"--user-data-dir={tmp_path / 'profile'}",
               "--virtual-time-budget=5000", "--dump-dom", viewer.link]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=90, check=True).stdout.decode()
    assert "24 reconstructions; 24 listed" in dom
    assert dom.count('<button type="button" aria-current') == 24
    assert "&lt;script&gt;alert" in dom
    assert "<script>alert" not in dom
    assert dom.index("no protection · rog") < dom.index("gaussian_noise(std=0.1) · rog"), "the worst leak comes first"
