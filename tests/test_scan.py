"""The scan: every kind of planted identifier is found, and what is clean is not."""

import json
import stat
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataelem import DataElement
from typer.testing import CliRunner

from gradiograph import deid
from gradiograph.cli import app
from gradiograph.core.errors import BadSetting
from gradiograph.deid.residue import LETTERS, scan
from gradiograph.deid.residue.attributes import letters_of
from gradiograph.deid.residue.finding import Sight
from gradiograph.deid.residue.names import scan_name
from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.scoring import reference_actions
from gradiograph.deid.synthetic import IMAGES, generate
from gradiograph.deid.synthetic.lettering import Style, burn


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return folder / IMAGES, generate(folder, patients=8, files=40, seed=11, listed=sorted(reference_actions()))


def test_every_planted_file_has_findings_of_nearly_every_letter(planted):
    folder, key = planted
    found = scan(folder, pixels=0)
    assert found.files == len(key.files)
    assert found.identified_files == found.files
    assert set(found.by_letter()) >= set("ABCDEFGHIJKMNOR")
    assert set(found.by_letter()) <= set(LETTERS)
    assert found.declared == 0
    assert "text in pixels" in found.unchecked
    assert any("0.994" in notice for notice in found.notices)


def test_nothing_is_found_in_what_was_de_identified(planted, tmp_path):
    folder, key = planted
    profile = deid.Profile(deid.check_options([]))
    deid.deidentify_folder(folder, tmp_path / "out", profile, deid.read_key(tmp_path / "site.key"))
    found = scan(tmp_path / "out", pixels=0)
    assert found.findings == ()
    assert found.declared >= sum(file.kind == "dicom" for file in key.files)
    assert "113100" in found.profiles


def test_no_value_is_in_what_the_scan_says(planted):
    folder, key = planted
    told = repr(scan(folder, pixels=0)).casefold()
    for patient in key.patients:
        assert not [value for value in patient.values.values() if value.casefold() in told]


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("seen on 04.12.1987", "C"),
        ("on 3 March 2011", "C"),
        ("19870412", "C"),
        ("call +49 30 1234567", "D"),
        ("fax 030 1234567", "E"),
        ("x.y@clinic.example", "F"),
        ("123-45-6789", "G"),
        ("MRN 4711081", "H"),
        ("https://pacs.example/1", "N"),
        ("192.168.10.12", "O"),
        ("Dr. Miller", "A"),
        ("MILLER^JANE", "A"),
        ("12 Elm Street", "B"),
        ("AB1234567", "R"),
    ],
)
def test_forms_have_their_letter(text, letters):
    assert set(letters) <= letters_in(text)


@pytest.mark.parametrize(
    "text",
    ["MR brain axial T2", "DR CHEST PA", "syngo MR B17", "1.2.840.10008.1.2.1", "tse2d1_9", "B30f", "0.51234", "3.5 mm",
     "VB1.2.1", "kV 120 mAs 250", "5.0.10"],
)  # fmt: skip
def test_technical_text_is_no_identifier(text):
    assert letters_in(text) == frozenset()


@pytest.mark.parametrize(
    ("keyword", "representation", "value", "letters"),
    [
        ("PatientName", "PN", "Quistorvald^Amelia", "A"),
        ("PatientName", "PN", "", ""),
        ("PatientID", "LO", "4711", "H"),
        ("PatientID", "LO", "ABCDEFGHIJ234567", ""),
        ("StudyDate", "DA", "20110304", "C"),
        ("StudyDate", "DA", "19000101", ""),
        ("PatientAge", "AS", "093Y", "C"),
        ("PatientAge", "AS", "043Y", ""),
        ("StationName", "SH", "CT7", "M"),
        ("AccessionNumber", "SH", "77", "R"),
        ("StudyDescription", "LO", "CT chest", ""),
        ("StudyDescription", "LO", "CT chest Quistorvald", "A"),
        ("Manufacturer", "LO", "Nobody Imaging", ""),
    ],
)
def test_attributes_have_their_letter(keyword, representation, value, letters):
    element = DataElement(keyword, representation, value)
    assert letters_of(element, declared=True, moved=False) == frozenset(letters)


def test_moved_dates_and_pseudonyms_count_only_where_the_file_says_so():
    date = DataElement("StudyDate", "DA", "20110304")
    assert letters_of(date, declared=True, moved=True) == frozenset()
    name = DataElement("PatientID", "LO", "ABCDEFGHIJ234567")
    assert letters_of(name, declared=False, moved=False) == frozenset("H")


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Miller_Jane/IM1.dcm", "A"),
        ("ct_19870412.nii.gz", "C"),
        ("MR15637536_0001.dcm", "R"),
        ("train/NORMAL/person123_bacteria_4.jpeg", ""),
        ("imagesTr/hippocampus_001.nii.gz", ""),
        ("00000013_005.png", ""),
        ("ABCDEFGHIJ234567/ZYXWVUTSRQ765432.dcm", ""),
        ("spine_report_example_ct.nii.gz", ""),
        ("NORMAL2-IM-1427-0001.jpeg", ""),
    ],
)
def test_file_names_have_their_letter(name, letters):
    sight = Sight(1)
    scan_name(name, sight)
    assert {finding.letter for finding in sight.findings} == set(letters)


def test_clean_files_have_no_findings(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "image_1.png")
    (tmp_path / "image_1.json").write_text(json.dumps({"EchoTime": 0.03, "SeriesDescription": "T2 axial brain"}))
    (tmp_path / "index.csv").write_text("file,label,patient\nimage_1.png,normal,p1\n")
    found = scan(tmp_path, pixels=0)
    assert not found.identified
    assert found.files == 3


def test_pictures_and_tables_are_looked_into(tmp_path):
    chunks = PngInfo()
    chunks.add_text("Comment", "for Quistorvald")
    Image.new("L", (32, 32)).save(tmp_path / "1.png", pnginfo=chunks)
    (tmp_path / "2.csv").write_text("file,birth_date,e-mail\n1.png,1950,x\n")
    found = scan(tmp_path, pixels=0)
    assert {(f.file, f.letter) for f in found.findings} == {(1, "A"), (2, "C"), (2, "F")}


def test_text_in_pixels_is_read_and_machine_text_is_not_reported(tmp_path):
    pytest.importorskip("rapidocr_onnxruntime")
    for number, text in enumerate(("MR15637536", "SUPINE")):
        drawn, _ = burn(np.full((120, 200), 20.0), text, Style(height=16, contrast=160), np.random.default_rng(1), [])
        Image.fromarray(drawn.astype(np.uint8)).save(tmp_path / f"{number}.png")
    found = scan(tmp_path)
    assert [(f.file, f.where, f.letter) for f in found.findings] == [(1, "pixels", "R")]


def test_damaged_files_are_told_and_do_not_stop_the_scan(tmp_path):
    (tmp_path / "1.dcm").write_bytes(b"")
    (tmp_path / "2.nii").write_bytes(b"\x00" * 400)
    (tmp_path / "3.json").write_text("{")
    (tmp_path / "4.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "5.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    found = scan(tmp_path, pixels=0)
    assert found.files == 5
    assert len(found.unchecked) >= 4


def test_every_test_file_of_pydicom_is_looked_at():
    folder = Path(pydicom.data.get_testdata_file("CT_small.dcm")).parent
    found = scan(folder, pixels=0)
    assert found.files > 150
    assert found.identified_files > 100


def test_the_verb_exits_with_1_and_keeps_names_to_the_owner(planted, tmp_path):
    folder, key = planted
    out = tmp_path / "findings.json"
    ran = CliRunner().invoke(app, ["scan", str(folder), "--no-pixels", "--out", str(out)])
    assert ran.exit_code == 1
    assert "Not de-identified" in ran.output
    assert "anonym" not in ran.output.casefold()
    assert not [v for p in key.patients for v in p.values.values() if v.casefold() in ran.output.casefold()]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert {row["letter"] for row in json.loads(out.read_text())} >= set("ABC")


def test_the_verb_exits_with_0_where_nothing_is_found(tmp_path):
    Image.new("L", (32, 32)).save(tmp_path / "1.png")
    ran = CliRunner().invoke(app, ["scan", str(tmp_path), "--no-pixels"])
    assert ran.exit_code == 0
    assert "de-identified as far as this scan sees" in ran.output.replace("\n", " ")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadSetting, match="no file to scan"):
        scan(tmp_path)


def test_the_generator_verb(tmp_path):
    ran = CliRunner().invoke(app, ["phi", str(tmp_path / "set"), "--patients", "2", "--files", "4", "--seed", "3"])
    assert ran.exit_code == 0
    assert "4 files of 2 invented patients" in ran.output
    assert (tmp_path / "set" / "key.json").is_file()


def test_a_preamble_and_a_declared_private_element_are_seen(tmp_path):
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    dataset.preamble = b"Quistorvald".ljust(128, b"\0")
    dataset.save_as(tmp_path / "1.dcm")
    found = scan(tmp_path, pixels=0)
    assert {"bytes", "private element", "header"} <= {finding.where for finding in found.findings}
