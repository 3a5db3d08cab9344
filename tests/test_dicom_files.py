"""DICOM files as they come: whole, compressed, damaged, hostile, or something else."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from gradiograph.core import registry
from gradiograph.data import dicom_header
from gradiograph.data.codestreams import claimed_size
from gradiograph.data.dicom_display import read_film
from gradiograph.data.dicom_header import read_header
from gradiograph.data.dicom_pixels import read_values
from gradiograph.data.refusals import Refused
from medical_specimens import PLANTED, class_folder, dataset, noise, sequence, write_dicom

PYDICOM = Path(pydicom.__file__).parent / "data"
SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "dicom_samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder ../shared/data/dicom_samples is absent")


def outcomes(root: Path) -> tuple[int, list[str]]:
    """How many files below a folder are read, and why the others are not."""
    read, reasons = 0, []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")):
        try:
            image = read_header(path)
            for frame in range(min(image.frames, 2)):
                film = read_film(image, frame, "file")
                assert film.dtype == np.float32
                assert film.shape[:2] == (image.rows, image.columns)
                assert 0 <= film.min() <= film.max() <= 1
        except Refused as why:
            reasons.append(str(why))
        else:
            read += 1
    return read, reasons


def test_every_file_of_pydicom_is_read_or_refused_with_a_reason():
    read, reasons = outcomes(PYDICOM)
    assert read >= 98
    assert sum("holds no image" in reason for reason in reasons) >= 70
    assert sum("is no DICOM file" in reason for reason in reasons) >= 15
    assert sum("no installed decoder reads" in reason for reason in reasons) == 3
    assert sum("damaged" in reason for reason in reasons) <= 1
    assert all(len(reason) > 20 and "pydicom" not in reason for reason in reasons)


@needs_samples
def test_every_sample_is_read():
    assert outcomes(SAMPLES) == (11, [])


# Whole files: the same numbers as an independent reader


@pytest.mark.parametrize(
    "name",
    [
        "CT_small",
        "MR_small",
        "MR_small_RLE",
        "MR_small_jp2klossless",
        "MR_small_bigendian",
        "693_J2KI",
    ],
)
def test_values_are_those_that_simpleitk_reads(name):
    path = PYDICOM / "test_files" / f"{name}.dcm"
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]
    assert np.allclose(read_values(read_header(path), 0), theirs, atol=1e-3)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_lossless_syntaxes_give_the_pixels_that_were_written(tmp_path, syntax):
    pixels = noise((40, 33), syntax)
    whole = dataset(pixels, "whole")
    if syntax == DeflatedExplicitVRLittleEndian:
        whole.file_meta.TransferSyntaxUID = syntax
    else:
        whole.compress(syntax, encoding_plugin={JPEG2000Lossless: "pylibjpeg"}.get(syntax, ""))
    whole.save_as(tmp_path / "film", enforce_file_format=True)
    assert np.array_equal(read_values(read_header(tmp_path / "film"), 0), pixels)


@pytest.mark.parametrize("name", ["jpeg_lossy_gdcm", "jpeg_dcmtk", "jls_lossy_line", "gdcm_KY"])
def test_lossy_colours_are_near_the_lossless_ones(name):
    lossless, lossy = (
        read_film(read_header(PYDICOM / "test_files" / f"SC_rgb_{file}.dcm"), 0, "file") for file in ("rle", name)
    )
    assert np.abs(lossless - lossy).mean() < 0.02


def test_frames_are_read_one_by_one(tmp_path):
    pixels = noise((5, 20, 22), "frames")
    image = read_header(write_dicom(tmp_path / "film", pixels))
    assert image.frames == 5
    assert np.array_equal(read_values(image, 3), pixels[3])


def test_unused_high_bits_are_no_values(tmp_path):
    pixels = noise((20, 20), "stored")
    image = read_header(write_dicom(tmp_path / "film", pixels | 0xF000, BitsStored=12, HighBit=11))
    assert np.array_equal(read_values(image, 0), pixels)


def test_signed_values_with_unused_bits_keep_their_sign(tmp_path):
    pixels = (noise((20, 20), "signed").astype(np.int16) - 2048).astype(np.int16)
    image = read_header(write_dicom(tmp_path / "film", pixels & 0x0FFF, BitsStored=12, HighBit=11))
    assert np.array_equal(read_values(image, 0), pixels)


def test_enhanced_frames_have_their_own_scale(tmp_path):
    def scale(slope):
        return {"PixelValueTransformationSequence": sequence({"RescaleSlope": slope, "RescaleIntercept": 1})}

    pixels = noise((2, 12, 12), "enhanced", high=100)
    groups = {"PerFrameFunctionalGroupsSequence": sequence(scale(2), scale(3))}
    image = read_header(write_dicom(tmp_path / "film", pixels, **groups))
    assert np.array_equal(read_values(image, 1), pixels[1] * 3.0 + 1)


# Damaged and hostile files: a line each, the rest goes on


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:400])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text(f"notes about {PLANTED}\n" * 20)


def huge(path):
    write_dicom(path, noise((20, 20), "huge"), Rows=60_000, Columns=60_000)


def too_long(path):
    made = dataset(noise((20, 20), "long"))
    made.PixelData += b"\1" * 1000
    made.save_as(path)


def too_many_frames(path):
    write_dicom(path, noise((20, 20), "frames"), NumberOfFrames=1_000_000)


def cyclic(path):
    """Sequences in sequences without end, as a sequence that holds itself would look."""
    content = write_dicom(path, noise((20, 20), "cyclic")).read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN")
    one = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:at] + one * 5000 + content[at:])


def wrong_length(path):
    content = bytearray(write_dicom(path, noise((20, 20), "length")).read_bytes())
    at = content.index(b"\x28\x00\x10\x00US")
    content[at + 6 : at + 8] = struct.pack("<H", 0xFFFE)
    path.write_bytes(content)


def lying_codestream(path):
    """A JPEG 2000 stream of 60,000 x 60,000 pixels in a file that says 64 x 64."""
    made = dataset(noise((64, 64), "stream"))
    made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    at = made.PixelData.index(b"\xff\x4f\xff\x51") + 8
    made.PixelData = made.PixelData[:at] + struct.pack(">II", 60_000, 60_000) + made.PixelData[at + 8 :]
    made.save_as(path)


def damaged_codestream(path):
    made = dataset(noise((64, 64), "damaged"))
    made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    made.PixelData = made.PixelData[:400] + b"\0" * (len(made.PixelData) - 400)
    made.save_as(path)


def bomb(path):
    """A deflated file of two kilobytes that inflates to two mebibytes."""
    made = dataset(noise((20, 20), "bomb"))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)
    head = path.read_bytes()[: 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(head + deflater.compress(b"\0" * 2**21) + deflater.flush())


def no_patient(path):
    write_dicom(path, noise((20, 20), "nobody"), PatientID=None)


def report(path):
    made = dataset(noise((2, 2), "report"), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None)
    del made.PixelData
    made.save_as(path)


DAMAGE = [
    (cut_short, "is cut off: 1,0"),
    (cut_in_the_header, "(ends before its pixel data|holds no image)"),
    (empty, "is empty: 0 bytes"),
    (text, "is no DICOM file"),
    (huge, r"says that it has 60000 x 60000 pixels, 6,866 MiB a frame; at most 256 MiB"),
    (too_long, "has 1,800 bytes of pixel data, but its header says 800"),
    (too_many_frames, "is cut off: 800 of 800,000,000 bytes"),
    (cyclic, "its structure is damaged"),
    (wrong_length, "(structure is damaged|ends before its pixel data|holds no image|no usable Rows)"),
    (lying_codestream, r"has a compressed frame of \(60000, 60000\), but its header says \(64, 64\)"),
    (damaged_codestream, "without a beginning or an end"),
    (bomb, "inflates to more than 1 MiB"),
    (no_patient, "names no patient"),
    (report, "it is of Basic Text SR Storage"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE, ids=lambda value: getattr(value, "__name__", None))
def test_a_bad_file_gets_a_line_and_the_others_are_read(tmp_path, damage, reason, capsys, caplog, monkeypatch):
    monkeypatch.setattr(dicom_header, "MAX_INFLATED_BYTES", 2**20)
    class_folder(tmp_path)
    bad = write_dicom(tmp_path / "normal" / PLANTED / "bad", noise((24, 24), "bad"))
    damage(bad)
    data = registry.build("data", {"use": "dicom", "path": tmp_path, "image_size": 16})
    assert len(data.records) == 12
    (line,) = data.refused
    assert line.startswith("File 1 of 13 (in sorted order) ")
    assert re.search(reason, line)
    assert data.read(range(12)).shape == (12, 1, 16, 16)
    printed = capsys.readouterr()
    told = (line, data.card, repr(data), printed.out, printed.err, caplog.text)
    assert not any(secret in text for text in told for secret in (PLANTED, str(tmp_path)))


def test_the_size_in_a_codestream():
    made = dataset(noise((64, 71), "size"))
    for syntax, plugin in ((JPEG2000Lossless, "pylibjpeg"), (JPEGLSLossless, "")):
        one = dataset(noise((64, 71), "size"))
        one.compress(syntax, encoding_plugin=plugin)
        frame = pydicom.encaps.get_frame(one.PixelData, 0)
        assert claimed_size(frame) == (64, 71)
    assert claimed_size(made.PixelData) is None
    assert claimed_size(b"\xff\xd8\xff") is None
    assert claimed_size(b"\xff\xd8\xff\xda" + b"\0" * 40) is None
