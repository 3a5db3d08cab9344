"""The synthetic set and its score: the score must catch what is left, and accept what is right."""

import gzip
import re
import shutil

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from gradiograph.cli import app
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.deid.scoring import action_of, reference_actions, score
from gradiograph.deid.scoring.leaks import Finder
from gradiograph.deid.scoring.values import spellings
from gradiograph.deid.synthetic import IMAGES, AnswerKey, generate
from gradiograph.deid.synthetic.anatomy import draw_anatomy
from gradiograph.deid.synthetic.lettering import CONTRASTS, HEIGHTS, ROTATIONS, Style, burn

pytest.importorskip("rapidocr_onnxruntime")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    key = generate(folder, patients=6, files=30, seed=5, listed=sorted(reference_actions()))
    return folder, key


def read(folder, file):
    return pydicom.dcmread(folder / IMAGES / file.name)


def test_the_same_seed_makes_the_same_set(made, tmp_path):
    folder, key = made
    again = generate(tmp_path, patients=6, files=30, seed=5, listed=sorted(reference_actions()))
    assert again == key == AnswerKey.read(folder / "key.json")
    for file in key.files:
        if file.kind != "nifti":  # gzip writes the time
            assert (folder / IMAGES / file.name).read_bytes() == (tmp_path / IMAGES / file.name).read_bytes()


def test_every_planted_value_is_long_unique_and_there(made):
    folder, key = made
    values = [value for patient in key.patients for value in patient.values.values()]
    assert all(len(value) >= 8 for value in values)
    finder, found = Finder(key), set()
    for file in key.files:
        raw = (folder / IMAGES / file.name).read_bytes()
        found |= finder.search(gzip.decompress(raw) if file.kind == "nifti" else raw, file.patient)
    assert {leak.patient for leak in found} == set(range(len(key.patients)))
    distinct = {value for patient in key.patients for value in set(patient.values.values())}
    assert len(distinct) == sum(len(set(patient.values.values())) for patient in key.patients)


def test_untouched_originals_have_every_action_undone_and_nothing_lost(made):
    folder, _ = made
    result = score(folder / IMAGES, folder / "key.json")
    shares = {name: share for name, _, _, share in result.rows()}
    assert result.header_actions == 0
    assert shares["files free of planted values"] == shares["file names clean"] == 0
    assert shares["clean pixels"] == shares["clinical element kept"] == shares["marker of the side kept"] == 1
    assert all(share == 0 for name, share in shares.items() if name.startswith("burned-in text"))


def test_a_rightly_changed_file_scores_full_and_a_slip_is_caught(made, tmp_path):
    folder, key = made
    number, file = next((n, f) for n, f in enumerate(key.files) if f.kind == "dicom" and f.burns)
    result = score(_deidentified(folder, key, file, tmp_path / "right"), folder / "key.json")
    mine = [failure for failure in result.tally.failures if failure.file == number]
    assert [(f.category, f.place) for f in mine] == []
    assert result.header_actions == 1

    def slip(dataset):
        dataset.add_new(0x00081030, "LO", "seen again")  # X must be absent
        dataset.StudyInstanceUID = read(folder, file).StudyInstanceUID
        del dataset.BodyPartExamined
        dataset.PatientName = f"x{key.patients[file.patient].values['family'].upper()}"

    result = score(_deidentified(folder, key, file, tmp_path / "slip", slip), folder / "key.json")
    mine = {(f.category, f.place) for f in result.tally.failures if f.file == number}
    assert mine >= {
        ("header action X", "(0008,1030)"),
        ("header action U", "(0020,000D)"),
        ("clinical element kept", "(0018,0015)"),
        ("files free of planted values", "(0010,0010)"),
    }


def test_the_verb_scores_what_it_wrote(tmp_path):
    folder = tmp_path / "set"
    generate(folder, patients=2, files=5, seed=1, listed=sorted(reference_actions()))
    key = ["--key", str(tmp_path / "site.key"), "--score", str(folder / "key.json")]
    ran = CliRunner().invoke(app, ["deidentify", str(folder / IMAGES), str(tmp_path / "out"), "--workers", "1", *key])
    assert ran.exit_code == 0, ran.output
    assert re.search(r"all header actions .* 100\.00%", ran.output)
    assert "97.91 to 99.93" in ran.output.replace("\n", " ")


def _deidentified(folder, key, file, out, then=lambda dataset: None):
    """What the reference table asks for, written naively: the score's positive control."""
    dataset = read(folder, file)
    names = {}
    _clean(dataset, names, Finder(key))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for tag in (0x00020016, 0x00020100, 0x00020102):
        dataset.file_meta.pop(tag, None)
    dataset.PatientIdentityRemoved = "YES"
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic Profile"
    dataset.DeidentificationMethodCodeSequence = [item]
    pixels = dataset.pixel_array.copy()
    frames = pixels if pixels.ndim > 2 and "NumberOfFrames" in dataset else pixels[None]
    for made in file.burns:
        if not made.keep:
            frames[:, *made.box] = 0
    dataset.decompress() if dataset.file_meta.TransferSyntaxUID.is_compressed else None
    dataset.PixelData = pixels.tobytes()
    dataset.preamble = b"\0" * 128
    then(dataset)
    out.mkdir()
    dataset.save_as(out / "1.dcm", enforce_file_format=True)
    return out


def _clean(dataset, names, finder):
    for element in list(dataset):
        action = action_of(int(element.tag))
        if element.VR == "SQ" and action is None:
            for item in element.value:
                _clean(item, names, finder)
        elif action is not None and action.startswith("X"):
            del dataset[element.tag]
        else:
            _replace(action, element, names, finder)


def _replace(action, element, names, finder):
    if action == "U":
        element.value = names.setdefault(element.value, pydicom.uid.generate_uid())
    elif action is not None and "Z" in action:
        element.value = [] if element.VR == "SQ" else None
    elif action == "D":
        element.value = _dummy(element.VR)
    elif finder.search(str(element.value).encode()):
        element.value = "Chest"


def _dummy(representation):
    item = pydicom.Dataset()
    item.CodeMeaning = "removed"
    special = {
        "SQ": [item],
        "DA": "19000101",
        "DT": "19000101",
        "TM": "000000",
        "AS": "000Y",
        "OB": b"\0\0",
        "UN": b"\0\0",
    }
    return special.get(representation, "REMOVED" if representation != "UI" else pydicom.uid.generate_uid())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_values_are_found_in_every_encoding_case_and_place(made, encoding):
    _, key = made
    finder = Finder(key)
    for number, patient in enumerate(key.patients):
        for kind in ("family", "native", "phone", "record"):
            text = patient.values[kind].upper().encode(encoding)
            found = {leak.kind for leak in finder.search(b"\x07" * 13 + text + b"\x00" * 5)}
            assert kind in found or (kind == "native" and "family" in found), (number, kind)


def test_a_digit_run_inside_of_a_uid_is_no_leak(made):
    _, key = made
    date = f"{key.patients[0].dates[0]:%Y%m%d}"
    assert not Finder(key).search(f"2.25.9{date}".encode(), 0)
    assert Finder(key).search(f" {date}".encode(), 0)
    assert not Finder(key).search(f" {date}".encode(), None)


def test_digits_without_their_punctuation_count():
    assert b"15551234567" in spellings("+1-555-123-4567")


def test_strata_are_drawn_and_text_stands_off_its_ground():
    rng = np.random.default_rng(3)
    styles = [Style.draw(rng) for _ in range(400)]
    assert {style.height for style in styles} == set(HEIGHTS)
    assert {style.contrast for style in styles} == set(CONTRASTS)
    assert {style.rotation for style in styles} == set(ROTATIONS)
    image = draw_anatomy("CT", rng)
    drawn, made = burn(image, "ABCD1234", Style(height=14, contrast=40), rng, [])
    moved = np.abs(drawn - image)[made.box][made.mask]
    assert np.mean(moved > 20) > 0.9
    assert np.array_equal(
        np.delete(drawn, range(made.box[0].start, made.box[0].stop), 0),
        np.delete(image, range(made.box[0].start, made.box[0].stop), 0),
    )


def test_bad_requests_are_told(made, tmp_path):
    folder, _ = made
    with pytest.raises(BadSetting, match="not empty"):
        generate(folder, patients=1, files=1, seed=0, listed=[])
    with pytest.raises(BadSetting, match="at least one file"):
        generate(tmp_path / "x", patients=5, files=2, seed=0, listed=[])
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(DataProblem, match="answer key"):
        score(folder, tmp_path / "key.json")
    shutil.copy(folder / "key.json", tmp_path / "key.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataProblem, match="holds no file"):
        score(tmp_path / "empty", tmp_path / "key.json")
