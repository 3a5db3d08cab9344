"""The DICOM reader on damaged files: it reads them or refuses them, and never tells what stands in them."""

from __future__ import annotations

import resource
import warnings
from io import BytesIO

import numpy as np
import pydicom
import pytest

from gradiograph.data.dicom_display import read_film
from gradiograph.data.dicom_header import read_header
from gradiograph.data.refusals import Refused
from mutations import mutate, seeds


def identifiers() -> set[str]:
    """The names and numbers of the patients in the whole files."""
    found = set()
    for content in seeds():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = pydicom.dcmread(BytesIO(content), force=True, stop_before_pixels=True)
            found |= {str(read.get(keyword, "")) for keyword in ("PatientName", "PatientID", "StudyInstanceUID")}
    return {text for text in found if len(text) >= 4}


def read_all(numbers: range, path, seed: int) -> tuple[int, set[str]]:
    """How many damaged files are still read, and the reasons against the others."""
    whole = seeds()
    read, reasons = 0, set()
    for number in numbers:
        path.write_bytes(mutate(whole[number % len(whole)], number, seed))
        try:
            image = read_header(path, ("BodyPartExamined",))
            image.text("PatientID")
            film = read_film(image, min(1, image.frames - 1), "file")
        except Refused as why:
            reasons.add(str(why))
        else:
            assert np.isfinite(film).all()
            assert 0 <= film.min() <= film.max() <= 1
            read += 1
    return read, reasons


def check(numbers: range, path, seed: int, caplog, capfd) -> None:
    read, reasons = read_all(numbers, path, seed)
    assert read > len(numbers) / 20
    assert len(reasons) > 15
    told = "\n".join((*reasons, caplog.text, *capfd.readouterr()))
    assert not {one for one in identifiers() if one in told}
    assert path.name not in told


def test_a_thousand_damaged_files(tmp_path, caplog, capfd):
    check(range(1000), tmp_path / "Hildegard", 7, caplog, capfd)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fifty_thousand_damaged_files(tmp_path, caplog, capfd):
    read_all(range(2000), tmp_path / "Hildegard", 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(range(2000, 52_000), tmp_path / "Hildegard", 8, caplog, capfd)
    # The largest frame that may be decoded takes some; what is lost on each file would add up to far more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20
