"""De-identification: what the table asks, the options, and a folder that is done whole or not at all."""

import io
import json
import stat
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from gradiograph import deid
from gradiograph.core.errors import BadSetting, DataProblem, LogProblem
from gradiograph.deid import one
from gradiograph.deid.journal import JOURNAL
from gradiograph.deid.profile import Action, rules
from gradiograph.deid.text import TextRegion

KEY = deid.Pseudonyms(bytes(range(32)))
NAME = "VILLANUEVA^XIMENA"
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
REAL = Path(__file__).parents[2] / "shared" / "data" / "dicom_samples"


def film(**changes):
    """A small CT slice with identifiers at several depths."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, "1.2.3.4.5.6"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.3.4", "1.2.3.4.5", "1.2.3.9"
    made.Modality, made.Manufacturer = "CT", "Maker"
    made.PatientName, made.PatientID, made.PatientBirthDate = NAME, "MRN-55512345", "19610430"
    made.PatientSex, made.PatientAge = "F", "093Y"
    made.StudyDate, made.StudyTime, made.ContentDate, made.SeriesDate = "20240301", "101112", "20240301", "20240301"
    made.AccessionNumber, made.InstitutionName = "ACC998877", "Spital Westhof"
    made.ReferringPhysicianName = "OKONKWO^EMEKA"
    made.StudyDescription = "CT Thorax of Ximena Villanueva, Dr Okonkwo"
    made.ReferencedStudySequence = Sequence([Dataset()])
    made.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3.4.77"
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepDescription = "RP4455667", "Thorax VILLANUEVA"
    made.RequestAttributesSequence = Sequence([item])
    made.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
    made.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", NAME)
    made.Rows = made.Columns = 8
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelSpacing, made.ImagePositionPatient = [0.5, 0.5], [1.0, -2.5, 3.25]
    made.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def coded(made, syntax=ExplicitVRLittleEndian):
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def deidentified(content, *options):
    made = deid.deidentify_dicom(content, deid.Profile(frozenset(options)), KEY, None)
    return pydicom.dcmread(io.BytesIO(made.content))


def test_the_table_is_complete():
    assert len(rules()) == 655
    assert deid.EDITION == "DICOM PS3.15 2025b"
    assert {letter for rule in rules().values() for letter in rule.basic.split("/")} == {"X", "Z", "D", "U", "U*"}


@pytest.mark.parametrize(
    ("tag", "sop_class", "sequence", "action"),
    [
        (0x00080023, CTImageStorage, "", Action.EMPTY),  # Content Date: type 2C in a CT image
        (0x00080023, "1.2.840.10008.5.1.4.1.1.2.1", "", Action.DUMMY),  # and type 1 in an enhanced one
        (0x00080021, CTImageStorage, "", Action.REMOVE),
        (0x00080080, CTImageStorage, "", Action.REMOVE),
        (0x00080080, CTImageStorage, "ContentCreatorIdentificationCodeSequence", Action.DUMMY),
        (0x60023000, CTImageStorage, "", Action.REMOVE),
        (0x00290010, CTImageStorage, "", Action.REMOVE),
        (0x00280010, CTImageStorage, "", None),
    ],
)
def test_the_action_depends_on_the_iod(tag, sop_class, sequence, action):
    assert deid.Profile().action(tag, sop_class, sequence) is action


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_basic_profile(syntax):
    content = coded(film(), syntax)
    made = deidentified(content)
    raw = made.to_json() + repr(made.file_meta)
    for planted in ("VILLANUEVA", "XIMENA", "55512345", "19610430", "20240301", "ACC998877", "Westhof", "OKONKWO"):
        assert planted.lower() not in raw.lower()
    assert made.PatientID == made.PatientName == KEY.name("patient", "MRN-55512345")
    assert made.AccessionNumber == ""
    assert made.StudyDate == ""
    assert "SeriesDate" not in made
    assert "StudyDescription" not in made
    assert not [element for element in made if element.tag.is_private]
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == KEY.uid("1.2.3.4.5.6")
    assert made.PixelData == film().PixelData
    assert (made.Modality, made.PixelSpacing, made.ImagePositionPatient) == ("CT", [0.5, 0.5], [1.0, -2.5, 3.25])
    assert made.PatientIdentityRemoved == "YES"
    assert made.LongitudinalTemporalInformationModified == "REMOVED"
    assert made.file_meta.TransferSyntaxUID == syntax


def test_the_original_data_set_is_not_changed():
    source = film()
    before = source.to_json()
    from gradiograph.deid.dataset import deidentify_dataset

    deidentify_dataset(source, deid.Profile(frozenset(deid.Option) - {deid.Option.FULL_DATES}), KEY)
    assert source.to_json() == before


def test_dates_move_by_the_patient():
    made = deidentified(coded(film()), deid.Option.MODIFIED_DATES)
    other = deidentified(coded(film(StudyDate="20240308", PatientName="another")), deid.Option.MODIFIED_DATES)
    from datetime import date

    def day(dataset):
        return date(int(dataset.StudyDate[:4]), int(dataset.StudyDate[4:6]), int(dataset.StudyDate[6:]))

    assert (day(other) - day(made)).days == 7
    assert made.StudyDate != "20240301"
    assert made.ContentDate == made.StudyDate
    assert made.StudyTime == "101112"
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"


def test_options_keep_what_they_say():
    options = deid.Option
    kept = deidentified(
        coded(film()), options.PATIENT, options.FULL_DATES, options.UIDS, options.INSTITUTION, options.SAFE_PRIVATE
    )
    assert (kept.PatientSex, kept.PatientAge) == ("F", "090Y")  # above 89 years all ages are one
    assert kept.StudyDate == "20240301"
    assert kept.StudyInstanceUID == "1.2.3.4"
    assert kept.InstitutionName == "Spital Westhof"
    assert kept[0x0019, 0x100C].value == 1000
    assert (0x0029, 0x1010) not in kept
    codes = [item.CodeValue for item in kept.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113106", "113108", "113110", "113111", "113112"]


def test_descriptions_keep_their_clinical_words():
    made = deidentified(coded(film()), deid.Option.CLEAN_DESCRIPTORS)
    assert made.StudyDescription.split() == ["CT", "Thorax", "of", "Dr"]
    (item,) = made.RequestAttributesSequence
    assert item.ScheduledProcedureStepDescription == "Thorax"
    assert "RequestedProcedureID" not in item


def test_contradicting_and_unbuilt_options_are_refused():
    with pytest.raises(BadSetting, match=r"113106.*113107"):
        deid.check_options([deid.Option.FULL_DATES, deid.Option.MODIFIED_DATES])
    with pytest.raises(BadSetting, match="Did you mean 'uids'"):
        deid.option_of("uid")


def test_what_was_removed_is_not_left_elsewhere():
    source = film(ImageType=["ORIGINAL", "PRIMARY"], FilterType="VILLANUEVA", KVP="120")
    source.DerivationCodeSequence = Sequence([Dataset()])
    source.DerivationCodeSequence[0].CodeMeaning = "asked by Okonkwo"
    made = deidentified(coded(source))
    assert made.FilterType == "REMOVED"
    assert made.KVP == 120
    assert made.ImageType == ["ORIGINAL", "PRIMARY"]
    assert made.DerivationCodeSequence[0].CodeMeaning == "REMOVED"


def test_values_that_ran_over_their_end_are_removed():
    source = film()
    source.ScanOptions = "HELICAL"
    content = bytearray(coded(source))
    place = content.index(b"\x18\x00\x22\x00CS")
    content[place + 6 : place + 8] = (60).to_bytes(2, "little")
    try:
        made = deidentified(bytes(content))
    except DataProblem:
        return
    assert "ScanOptions" not in made


def test_private_and_unknown_attributes_go():
    source = film()
    source.add_new(0x00120999, "LO", "something new")
    assert (0x0012, 0x0999) not in deidentified(coded(source))


def test_sequences_without_end_are_refused():
    inner = film()
    for _ in range(60):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        inner = outer
    source = film(ReferencedSeriesSequence=inner.ReferencedSeriesSequence)
    with pytest.raises(DataProblem, match="nested"):
        deidentified(coded(source))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"# a text\n" * 100, "Not a DICOM file"),
        (coded(film())[:-20], "truncated"),
        (coded(film(Rows=60000, Columns=60000)), r"promises 7,200,000,000 bytes"),
        (coded(film(PixelData=b"\0" * 64)), "promises 128 bytes of pixels; the file has 64"),
    ],
)
def test_bad_files_are_refused_with_a_reason(content, reason):
    with pytest.raises(DataProblem, match=reason):
        deidentified(content)


def test_bytes_after_the_pixels_are_cut_off():
    made = deidentified(coded(film(PixelData=film().PixelData + b"VILLANUEVA")))
    assert made.PixelData == film().PixelData


def folder(path, films):
    path.mkdir()
    for name, content in films.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_a_folder_goes_on_after_a_bad_file(tmp_path):
    films = {"VILLANUEVA/1.dcm": coded(film()), "VILLANUEVA/2.dcm": b"", "b.txt": b"a note"}
    source = folder(tmp_path / "in", films)
    told = []
    found = deid.deidentify_folder(
        source, tmp_path / "out", deid.Profile(), KEY, progress=lambda done, total: told.append((done, total))
    )
    assert (found["files"], found["deidentified"]) == (3, 1)
    assert [refused["number"] for refused in found["refused"]] == [2, 3]
    assert told == [(1, 3), (2, 3), (3, 3)]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in written) == [".dcm", ".json", ".jsonl"]
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"VILLANUEVA" not in path.read_bytes()
        assert "VILLANUEVA" not in str(path.relative_to(tmp_path))
    assert {name: (source / name).read_bytes() for name in films} == films


def test_resuming_does_only_what_is_left(tmp_path, monkeypatch):
    films = {f"{number}.dcm": coded(film(SOPInstanceUID=f"1.2.{number}")) for number in range(4)}
    source, out = folder(tmp_path / "in", films), tmp_path / "out"
    deid.deidentify_folder(source, out, deid.Profile(), KEY)
    with pytest.raises(LogProblem, match="--resume"):
        deid.deidentify_folder(source, out, deid.Profile(), KEY)
    lines = (out / JOURNAL).read_text().splitlines(keepends=True)
    (out / json.loads(lines[2])["output"]).unlink()
    (out / JOURNAL).write_text("".join(lines[:4]) + lines[4][:20])  # the last line was cut by the interruption
    made = []
    real = one.deidentify_dicom

    def counting(content, *rest):
        made.append(content)
        return real(content, *rest)

    monkeypatch.setattr("gradiograph.deid.folder.deidentify_dicom", counting)
    found = deid.deidentify_folder(source, out, deid.Profile(), KEY, resume=True)
    assert (found["deidentified"], len(made)) == (4, 2)
    assert len(list(out.rglob("*.dcm"))) == 4
    for profile, key in (
        (deid.Profile(frozenset({deid.Option.UIDS})), KEY),
        (deid.Profile(), replace(KEY, key=b"x" * 32)),
    ):
        with pytest.raises(LogProblem, match="another key"):
            deid.deidentify_folder(source, out, profile, key, resume=True)


def test_two_processes_do_the_same_as_one(tmp_path):
    films = {f"{number}.dcm": coded(film(SOPInstanceUID=f"1.2.{number}")) for number in range(5)} | {"x": b"no"}
    source = folder(tmp_path / "in", films)
    outputs = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        found = deid.deidentify_folder(source, out, deid.Profile(), KEY, workers=workers)
        outputs.append((found, {path.relative_to(out): path.read_bytes() for path in out.rglob("*.dcm")}))
    assert outputs[0] == outputs[1]


def test_the_output_may_not_lie_in_the_input(tmp_path):
    source = folder(tmp_path / "in", {"1.dcm": coded(film())})
    with pytest.raises(BadSetting, match="outside"):
        deid.deidentify_folder(source, source / "out", deid.Profile(), KEY)


def test_the_key_is_the_owners_alone(tmp_path):
    path = tmp_path / "site.key"
    first = deid.read_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert deid.read_key(path) == first
    assert repr(first.key.hex()) not in repr(first)
    path.chmod(0o640)
    with pytest.raises(BadSetting, match="chmod 600"):
        deid.read_key(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(BadSetting, match="hexadecimal"):
        deid.read_key(path)


def test_pseudonyms_depend_on_the_key():
    other = replace(KEY, key=b"x" * 32)
    assert KEY.uid("1.2.3") == KEY.uid("1.2.3 ")
    assert KEY.uid("1.2.3") != other.uid("1.2.3")
    assert KEY.name("patient", "a") != KEY.name("study", "a")
    assert KEY.days("a") != other.days("a")
    assert -3650 <= KEY.days("a") <= -1


def sample_files():
    files = [path for path in sorted(SAMPLES.rglob("*")) if path.is_file()]
    return files + [path for path in sorted(REAL.rglob("*")) if path.is_file()]


def test_every_sample_is_deidentified_or_refused():
    """All test files of pydicom and the samples: no crash, no warning, and what comes out can be read."""
    everything = deid.Profile(frozenset(deid.Option) - {deid.Option.FULL_DATES})
    done = 0
    for path in sample_files():
        content = path.read_bytes()
        for profile in (deid.Profile(), everything):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    made = deid.deidentify_dicom(content, profile, KEY, None)
                except DataProblem as error:
                    assert len(str(error)) > 10  # noqa: PT017 - the reason is what is tested
                    continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                again = pydicom.dcmread(io.BytesIO(made.content))
            assert again.PatientIdentityRemoved == "YES"
            done += 1
    assert done > 300


class OneLine:
    """Finds a line at the top left until it is black."""

    def __init__(self, text="DOE JANE", left=99):
        self.text, self.left, self.seen = text, left, []

    def find(self, image):
        self.seen.append(image)
        if image[1:4, 1:5].max() == image.min() or not self.left:
            return ()
        self.left -= 1
        return (TextRegion(corners=((1, 1), (5, 1), (5, 4), (1, 4)), text=self.text, confidence=1.0),)


def blackened(finder, **changes):
    options = frozenset({deid.Option.CLEAN_PIXELS})
    made = deid.deidentify_dicom(coded(film(**changes)), deid.Profile(options), KEY, finder)
    return made, pydicom.dcmread(io.BytesIO(made.content))


def test_text_is_blackened_and_read_again():
    finder = OneLine()
    bright = np.full((8, 8), 900, np.uint16)
    bright[7, 7] = 5
    made, image = blackened(finder, PixelData=bright.tobytes())
    assert len(finder.seen) == 2
    assert (image.pixel_array[1:4, 1:5] == 5).all()
    assert (image.pixel_array[6:, :6] == 900).all()
    assert image.BurnedInAnnotation == "NO"
    assert made.pixels.regions == 1
    assert 0.1 < made.pixels.share < 0.7


def test_black_is_white_where_the_image_is_inverted():
    _, image = blackened(OneLine(left=1), PhotometricInterpretation="MONOCHROME1")
    assert (image.pixel_array[1:4, 1:5] == 63).all()


def test_markers_of_the_side_stay():
    made, image = blackened(OneLine(text="R"))
    assert image.PixelData == film().PixelData
    assert (made.pixels.regions, made.pixels.markers) == (0, 1)


def test_text_that_cannot_be_blackened_is_refused():
    class Always(OneLine):
        def find(self, image):
            return (TextRegion(corners=((1, 1), (5, 1), (5, 4), (1, 4)), text="DOE JANE", confidence=1.0),)

    with pytest.raises(DataProblem, match="still found"):
        blackened(Always())


def test_long_loops_are_read_at_frames_and_extremes():
    finder = OneLine(left=0)
    frames = np.zeros((30, 8, 8), np.uint16)
    made, _ = blackened(finder, NumberOfFrames=30, PixelData=frames.tobytes())
    assert (made.pixels.frames, made.pixels.frames_read, len(finder.seen)) == (30, 8, 10)


def overlay(finder, *options):
    source = film()
    bits = np.zeros((8, 8), np.uint8)
    bits[1:4, 1:5] = bits[7, 7] = 1
    source.add_new(0x60000010, "US", 8)
    source.add_new(0x60000011, "US", 8)
    source.add_new(0x60000040, "CS", "G")
    source.add_new(0x60000050, "SS", [1, 1])
    source.add_new(0x60000100, "US", 1)
    source.add_new(0x60000102, "US", 0)
    source.add_new(0x60003000, "OW", np.packbits(bits, bitorder="little").tobytes())
    source.add_new(0x60004000, "LT", "VILLANUEVA")
    made = deid.deidentify_dicom(coded(source), deid.Profile(frozenset(options)), KEY, finder)
    return pydicom.dcmread(io.BytesIO(made.content))


def test_overlays_go_or_lose_their_text():
    assert not [element for element in overlay(None) if element.tag.group == 0x6000]
    assert not [element for element in overlay(None, deid.Option.CLEAN_GRAPHICS) if element.tag.group == 0x6000]
    kept = overlay(OneLine(), deid.Option.CLEAN_GRAPHICS)
    plane = kept.overlay_array(0x6000)
    assert plane.sum() == plane[7, 7] == 1


def test_an_overlay_in_the_bits_of_the_pixels_is_cleared():
    pixels = np.arange(64, dtype=np.uint16) | 1 << 15
    source = film(BitsStored=12, HighBit=11, PixelData=pixels.tobytes())
    source.add_new(0x60000102, "US", 15)
    made = deidentified(coded(source))
    assert made.PixelData == np.arange(64, dtype=np.uint16).tobytes()


def test_a_medium_gets_a_new_index(tmp_path):
    source, medium = tmp_path / "in", FileSet()
    for number in range(3):
        made = film(
            SOPInstanceUID=f"1.2.{number}", StudyID="ST4455667", SeriesNumber="1", InstanceNumber=str(number + 1)
        )
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        medium.add(made)
    medium.write(source / "CD_VILLANUEVA")
    medium._stage["t"].cleanup()
    out = tmp_path / "out"
    found = deid.deidentify_folder(source, out, deid.Profile(), KEY)
    assert found["refused"] == []
    (index,) = out.rglob("DICOMDIR")
    assert index.parent.parent == out
    assert b"VILLANUEVA" not in index.read_bytes()
    listed = FileSet(index)
    assert len(listed) == 3
    for instance in listed:
        assert instance.load().PatientIdentityRemoved == "YES"
    listed._stage["t"].cleanup()
    assert not list(out.rglob("*.dcm"))
    entries = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()[1:]]
    assert all((out / entry["output"]).is_file() for entry in entries)
    again = deid.deidentify_folder(source, out, deid.Profile(), KEY, resume=True)
    assert again == found


def test_comments_in_compressed_pixels_go():
    pixels = np.arange(64 * 64, dtype=np.uint16)
    source = film(Rows=64, Columns=64, PixelData=pixels.tobytes())
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source.compress(JPEG2000Lossless, generate_instance_uid=False)
    (frame,) = generate_frames(source.PixelData, number_of_frames=1)
    comment = b"\xff\x64" + (4 + 10).to_bytes(2, "big") + b"\x00\x01" + b"VILLANUEVA"
    place = frame.index(b"\xff\x52")  # any marker of the main header
    source.PixelData = encapsulate([frame[:place] + comment + frame[place:]])
    content = coded(source, JPEG2000Lossless)
    assert b"VILLANUEVA" in content
    made = deidentified(content)
    assert b"VILLANUEVA" not in made.PixelData
    assert (made.pixel_array == pixels.reshape(64, 64)).all()


def test_reports_keep_their_findings():
    def concept(value, meaning, scheme="DCM"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    def content(kind, name, **values):
        item = Dataset()
        item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, Sequence([name])
        for key, value in values.items():
            setattr(item, key, value)
        return item

    source, chest = film(), Sequence([concept("P5", "Chest")])
    source.ContentSequence = Sequence([
        content("TEXT", concept("121071", "Finding"), TextValue="Nodule of 12mm in the lung of Mrs Villanueva"),
        content("PNAME", concept("121008", "Person Observer Name"), PersonName="OKONKWO^EMEKA"),
        content("TEXT", concept("121030", "Subject ID"), TextValue="anything"),
        content("CODE", concept("121058", "Procedure reported"), ConceptCodeSequence=chest),
        content("CODE", concept("1", "x"), ConceptCodeSequence=Sequence([concept("7", "Own words", "99ACME")])),
    ])  # fmt: skip
    basic = deidentified(coded(source)).ContentSequence
    assert len(basic) == 1
    assert basic[0].TextValue == "REMOVED"
    text, person, procedure, own = deidentified(coded(source), deid.Option.CLEAN_STRUCTURE).ContentSequence
    assert text.TextValue == "Nodule of 12mm in the lung of"
    assert text.ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert person.PersonName == "REMOVED"
    assert procedure.ConceptCodeSequence[0].CodeMeaning == "Chest"
    assert len(own.ConceptCodeSequence) == 0


def test_text_of_the_header_in_the_pixels_is_refused():
    pixels = b"\0" * 50 + b"villanueva" + b"\0" * 68
    with pytest.raises(DataProblem, match="Text of the header"):
        deidentified(coded(film(PixelData=pixels)))
