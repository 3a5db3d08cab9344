"""The folder data source: every layout, every pixel type, every refusal."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradiograph.data  # noqa: F401 - registers the component
from gradiograph.core import registry
from gradiograph.core.errors import BadInput, BadSetting, DataProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.data.class_folders import list_class_folders
from gradiograph.data.patients import patients_from_names

REAL = Path(__file__).parents[2] / "shared" / "data"
needs_real_films = pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data is absent")
PLANTED = "Hildegard"
"""Every patient, file and folder of the generated sources carries this name: no message may show it."""


def film(path: Path, height=16, width=16, *, value=None, dtype=np.uint8, colour=False, names=("film",)):
    """Write a film of a constant value, or of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if colour else (height, width)
    noise = numpy_stream(0, path.name, *names).integers(0, np.iinfo(dtype).max, shape, dtype)
    pixels = noise if value is None else np.full(shape, value, dtype)
    Image.fromarray(pixels).save(path)
    return pixels


def class_folders(root: Path, *, patients=6, films=1, suffix="png") -> Path:
    for label in ("NORMAL", "PNEUMONIA"):
        for patient in range(patients):
            for number in range(films):
                film(root / label / f"{PLANTED}{label[0]}{patient}_{number}.{suffix}")
    return root


def indexed(root: Path, columns=("file", "label", "patient", "split")) -> tuple[Path, list[list[str]]]:
    """Three films a class, a split each, and the rows of their index."""
    rows = []
    for label in ("sick", "well"):
        for split in ("train", "val", "test"):
            name = f"films/{PLANTED}-{label}-{split}.png"
            film(root / name)
            rows.append([name, label, f"{PLANTED} {label} {split}", split])
    index = root / "list.csv"
    write(index, [list(columns), *(row[: len(columns)] for row in rows)])
    return index, rows


def write(index: Path, lines: list[list[str]]) -> None:
    with index.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)


def load(path: Path, **settings):
    return registry.build("data", {"use": "folder", "path": str(path), "image_size": 16, **settings})


PATTERN = f"^({PLANTED}[NP][0-9]+)_"


# Layouts


def test_class_folders(tmp_path):
    class_folders(tmp_path, films=2)
    data = load(tmp_path, patient_pattern=PATTERN)
    assert (data.name, data.classes, data.image_shape) == ("folder", ("NORMAL", "PNEUMONIA"), (1, 16, 16))
    assert [record.index for record in data.records] == list(range(24))
    assert Counter(record.label for record in data.records) == {0: 12, 1: 12}
    assert set(Counter(record.patient for record in data.records).values()) == {2}
    assert len({(record.patient, record.split) for record in data.records}) == 12
    assert {record.split for record in data.records} == {"train", "val", "test"}
    assert str(tmp_path) not in data.card
    assert PLANTED not in data.card
    assert PLANTED not in repr(data)


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "VAL"])
def test_split_folders_as_kaggle_ships_them(tmp_path, val):
    for split in ("train", val, "test"):
        class_folders(tmp_path / split, patients=2)
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    class_folders(tmp_path / "chest_xray" / "train")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "train" / ".DS_Store").touch()
    (tmp_path / "train" / "NORMAL" / "Thumbs.db").touch()
    data = load(tmp_path, patient_pattern=PATTERN, fractions=[0, 0, 1])
    assert Counter(record.split for record in data.records) == {"train": 4, "val": 4, "test": 4}
    # The same name in train and in test is two people.
    assert len({record.patient for record in data.records}) == 12
    assert "4 patient names occur in more than one split folder" in data.card
    assert "1 folders beside the split folders were left out" in data.card
    assert "1 files that are no images were left out of the split folder 'train'" in data.card


def test_kermany_names():
    names = ["person1946_bacteria_4874", "person1_virus_6", "NORMAL2-IM-1427-0001", "IM-0115-0001", "IM-0429-0001-0002"]
    assert patients_from_names(names) == ["person1946", "person1", "NORMAL2-IM-1427", "IM-0115", "IM-0429"]


def test_index_with_split(tmp_path):
    index, rows = indexed(tmp_path)
    data = load(tmp_path, index=str(index))
    assert data.classes == ("sick", "well")
    found = [(data.classes[record.label], record.patient, record.split) for record in data.records]
    assert found == [tuple(row[1:]) for row in sorted(rows)]


def test_index_without_split_and_with_other_names(tmp_path):
    index, _ = indexed(tmp_path, columns=("Image Index", "Finding", "Patient ID"))
    data = load(
        tmp_path,
        index=str(index),
        file_column="Image Index",
        label_column="Finding",
        patient_column="Patient ID",
        fractions=(0.5, 0, 0.5),
    )
    assert Counter(record.split for record in data.records) == {"train": 3, "test": 3}


def test_the_order_of_rows_does_not_matter(tmp_path):
    index, rows = indexed(tmp_path)
    before = load(tmp_path, index=str(index))
    write(index, [["split", "patient", "label", "file"], *(row[::-1] for row in reversed(rows))])
    after = load(tmp_path, index=str(index))
    assert before.records == after.records
    np.testing.assert_array_equal(before.read(range(6)), after.read(range(6)))


def test_index_with_byte_order_mark_and_blank_lines(tmp_path):
    index, _ = indexed(tmp_path)
    index.write_text("\ufeff" + index.read_text().replace("\n", "\n\n"), encoding="utf-8")
    assert len(load(tmp_path, index=str(index)).records) == 6


def test_whole_number_classes_are_in_the_order_of_their_value(tmp_path):
    for label in ("10", "9", "0"):
        film(tmp_path / label / f"{label}.png")
    assert load(tmp_path, patient_pattern="(.*)").classes == ("0", "9", "10")


# Pixels


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_square_grey_film_of_the_size_is_read_exactly(tmp_path, suffix):
    pixels = film(tmp_path / "a" / f"1.{suffix}")
    film(tmp_path / "b" / "2.png")
    data = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0))
    images = data.read([0])
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, 0], pixels / 255, atol=1e-7)


def test_a_jpeg_is_read_near_its_values(tmp_path):
    film(tmp_path / "a" / "1.JPEG", value=51)
    film(tmp_path / "b" / "2.jpg", value=204)
    data = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0))
    np.testing.assert_allclose(data.read([1, 0]).mean((1, 2, 3)), [0.8, 0.2], atol=0.01)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize(("bits", "white"), [(None, 65535), (16, 65535), (14, 16383), (12, 4095), (10, 1023)])
def test_sixteen_bit_films(tmp_path, suffix, bits, white):
    film(tmp_path / "a" / f"1.{suffix}", value=1023, dtype=np.uint16)
    film(tmp_path / "b" / f"2.{suffix}", value=0, dtype=np.uint16)
    settings = {} if bits is None else {"bits": bits}
    images = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0), **settings).read([0, 1])
    np.testing.assert_allclose(images.mean((1, 2, 3)), [1023 / white, 0], rtol=1e-5)


def test_thirty_two_bit_and_big_endian_tiff(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(np.full((16, 16), 65535, np.int32)).save(tmp_path / "a" / "1.tif")
    Image.fromarray(np.full((16, 16), 13107, ">u2")).save(tmp_path / "b" / "2.tif")
    images = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0)).read([0, 1])
    np.testing.assert_allclose(images.mean((1, 2, 3)), [1, 0.2], rtol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bit_modes(tmp_path, mode, channels):
    suffix = "tif" if mode == "CMYK" else "png"
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (16, 16), "white").convert(mode).save(tmp_path / label / f"{label}.{suffix}")
    data = load(tmp_path, channels=channels, patient_pattern="(.*)", fractions=(1, 0, 0))
    assert data.image_shape == (channels, 16, 16)
    np.testing.assert_allclose(data.read([0]), np.ones((1, channels, 16, 16)), atol=1e-6)


def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        image = Image.new("P", (16, 16), 1)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(tmp_path / label / f"{label}.png", transparency=bytes([0, 128]))
    data = load(tmp_path, channels=3, patient_pattern="(.*)", fractions=(1, 0, 0))
    np.testing.assert_array_equal(data.read([0])[0, :, 8, 8], [1, 0, 0])


def test_colour_becomes_luma_and_grey_is_repeated(tmp_path):
    pixels = film(tmp_path / "a" / "1.png", colour=True)
    film(tmp_path / "b" / "2.png")
    luma = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0)).read([0])
    np.testing.assert_allclose(luma[0, 0], pixels @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    colour = load(tmp_path, channels=3, patient_pattern="(.*)", fractions=(1, 0, 0)).read([0, 1])
    np.testing.assert_allclose(colour[0], pixels.transpose(2, 0, 1) / 255, atol=1e-6)
    np.testing.assert_array_equal(colour[1, 0], colour[1, 2])


@pytest.mark.parametrize("transpose", [False, True])
def test_the_centre_is_cropped_and_antialiased(tmp_path, transpose):
    wide = np.zeros((64, 96), np.uint8)
    wide[:, 16:80] = np.where(np.arange(64) % 2, 200, 100)
    (tmp_path / "a").mkdir()
    Image.fromarray(wide.T if transpose else wide).save(tmp_path / "a" / "1.png")
    film(tmp_path / "b" / "2.png")
    image = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0)).read([0])[0, 0]
    # The black margin is gone and stripes finer than a pixel have become their mean.
    np.testing.assert_allclose(image[2:-2, 2:-2], 150 / 255, atol=0.02)
    assert image.min() > 0.45


def test_values_stay_in_range_beside_sharp_edges(tmp_path):
    edges = np.kron(np.indices((4, 4)).sum(0) % 2, np.full((12, 12), 255)).astype(np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(edges).save(tmp_path / "a" / "1.png")
    film(tmp_path / "b" / "2.png")
    image = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0)).read([0])
    assert (image.min(), image.max()) == (0, 1)


def test_reading_does_not_hand_out_its_cache(tmp_path):
    class_folders(tmp_path)
    data = load(tmp_path, patient_pattern=PATTERN)
    first = data.read([3])
    before = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(data.read([3]), before)
    assert data.read([]).shape == (0, 1, 16, 16)
    np.testing.assert_array_equal(data.read([3, 0])[0], before[0])


def test_upsample(tmp_path):
    film(tmp_path / "a" / "1.png", 12, 20, value=90)
    film(tmp_path / "b" / "2.png", 40, 40)
    image = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0), upsample=True).read([0])
    np.testing.assert_allclose(image, np.full((1, 1, 16, 16), 90 / 255), atol=1e-6)


# Refusals


def refusal(tmp_path, kind, *parts, path=None, **settings) -> str:
    with pytest.raises(BadInput) as caught:
        load(path or tmp_path, **settings)
    message = str(caught.value)
    assert caught.type is kind
    for part in parts:
        assert part in message
    assert PLANTED not in message
    assert str(tmp_path) not in message
    assert tmp_path.name not in message
    assert "Traceback" not in message
    # `raise ... from None`: a chained error would show the path after all.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return message


def test_path_is_missing_or_no_folder(tmp_path):
    refusal(tmp_path, DataProblem, "`path` does not exist", path=tmp_path / PLANTED)
    film(tmp_path / "film.png")
    refusal(tmp_path, DataProblem, "not a folder", path=tmp_path / "film.png")


def test_empty_folder(tmp_path):
    refusal(tmp_path, DataProblem, "neither an image nor a folder in the folder given as `path`")


def test_empty_class_folder(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / f"{PLANTED}.txt").touch()
    refusal(tmp_path, DataProblem, "Class folder 2 of 3 (in sorted order)", "holds no image", "1 files of other types")


def test_mixed_folder(tmp_path):
    class_folders(tmp_path)
    film(tmp_path / f"{PLANTED}.png")
    refusal(tmp_path, DataProblem, "1 images lie directly in the folder given as `path`")


def test_mixed_split_folders(tmp_path):
    class_folders(tmp_path / "train")
    film(tmp_path / "train" / f"{PLANTED}.png")
    refusal(tmp_path, DataProblem, "1 images lie directly in the split folder 'train'")
    (tmp_path / "train" / f"{PLANTED}.png").rename(tmp_path / f"{PLANTED}.png")
    refusal(tmp_path, DataProblem, "1 images lie directly in the folder given as `path`")
    (tmp_path / f"{PLANTED}.png").unlink()
    film(tmp_path / "NORMAL" / f"{PLANTED}.png")
    refusal(tmp_path, DataProblem, "1 folders with images lie beside split folders", "train, val, valid")


def test_folders_too_deep(tmp_path):
    class_folders(tmp_path / PLANTED)
    refusal(tmp_path, DataProblem, "Class folder 1 of 1 (in sorted order)", "holds 2 folders")


def test_one_class(tmp_path):
    film(tmp_path / PLANTED / f"{PLANTED}.png")
    refusal(tmp_path, DataProblem, "of 1 class", "at least 2", patient_pattern="(.*)")


def test_names_without_a_patient(tmp_path):
    class_folders(tmp_path)
    film(tmp_path / "NORMAL" / "IM-0115-0001.png")
    advice = ("do not match the built-in pattern", "Set `patient_pattern`")
    refusal(tmp_path, DataProblem, "12 of 13 file names (the first is image 1", *advice)
    refusal(tmp_path, DataProblem, "1 of 13 file names (the first is image 7", patient_pattern=PATTERN)
    # A group that is there but empty names nobody.
    refusal(tmp_path, DataProblem, "13 of 13 file names", patient_pattern="(x*)")


def test_names_that_are_not_utf8(tmp_path):
    class_folders(tmp_path)
    film(tmp_path / "NORMAL" / f"{PLANTED}\udcff_1.png")
    refusal(tmp_path, DataProblem, "1 of 13 files (the first is image 7", "not UTF-8", patient_pattern="(.*)")


@pytest.mark.parametrize(
    ("pattern", "part"),
    [("(", "not a regular expression"), ("x", "has 0 groups"), ("(a)(b)", "has 2 groups; it needs exactly 1")],
)
def test_bad_pattern(tmp_path, pattern, part):
    class_folders(tmp_path)
    refusal(tmp_path, BadSetting, part, patient_pattern=pattern)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_file_that_is_no_image(tmp_path, suffix):
    class_folders(tmp_path)
    (tmp_path / "NORMAL" / f"{PLANTED}N9_0.{suffix}").write_bytes(b"no image" * 20)
    part = "Image 7 of 13 (in sorted order) cannot be read as PNG, JPEG, TIFF, BMP (images like this: 1)"
    refusal(tmp_path, DataProblem, part, patient_pattern=PATTERN)


def test_a_png_with_a_flipped_byte_is_found_at_load(tmp_path):
    class_folders(tmp_path)
    target = tmp_path / "NORMAL" / f"{PLANTED}N2_0.png"
    raw = bytearray(target.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    target.write_bytes(raw)
    refusal(tmp_path, DataProblem, "Image 3 of 12 (in sorted order)", patient_pattern=PATTERN)


def test_a_truncated_jpeg_is_found_at_read(tmp_path):
    class_folders(tmp_path, suffix="jpg")
    target = tmp_path / "NORMAL" / f"{PLANTED}N2_0.jpg"
    target.write_bytes(target.read_bytes()[:-60])
    data = load(tmp_path, patient_pattern=PATTERN)
    assert data.read([0, 1, 3]).shape == (3, 1, 16, 16)
    with pytest.raises(DataProblem, match=r"^Image 3 of 12 \(in sorted order\) cannot be decoded") as caught:
        data.read([0, 2])
    assert PLANTED not in str(caught.value)
    assert caught.value.__suppress_context__


def test_several_frames(tmp_path):
    class_folders(tmp_path)
    frames = [Image.new("L", (16, 16)) for _ in range(3)]
    frames[0].save(tmp_path / "NORMAL" / f"{PLANTED}N9_0.tif", save_all=True, append_images=frames[1:])
    refusal(tmp_path, DataProblem, "Image 7 of 13", "more than one frame", patient_pattern=PATTERN)


def test_floating_point_films(tmp_path):
    class_folders(tmp_path)
    Image.new("F", (16, 16)).save(tmp_path / "NORMAL" / f"{PLANTED}N9_0.tif")
    refusal(tmp_path, DataProblem, "Image 7 of 13", "pixel type", "I;16", patient_pattern=PATTERN)


def test_bits_do_not_fit(tmp_path):
    class_folders(tmp_path)
    part = "Image 1 of 12 (in sorted order) has 8 bits a channel, but bits = 12 (images like this: 12)"
    refusal(tmp_path, DataProblem, part, patient_pattern=PATTERN, bits=12)
    refusal(tmp_path, BadSetting, "bits = 9", patient_pattern=PATTERN, bits=9)


def test_values_above_white(tmp_path):
    film(tmp_path / "a" / "1.png", value=5000, dtype=np.uint16)
    film(tmp_path / "b" / "2.png", dtype=np.uint16)
    data = load(tmp_path, patient_pattern="(.*)", fractions=(1, 0, 0), bits=12)
    with pytest.raises(DataProblem, match=r"Image 1 of 2 .* from 5000 to 5000; allowed are 0 to 4095"):
        data.read([0])


def test_images_smaller_than_image_size(tmp_path):
    film(tmp_path / "a" / f"{PLANTED}1.png", 40, 96)
    film(tmp_path / "a" / f"{PLANTED}2.png", 130, 64)
    film(tmp_path / "b" / f"{PLANTED}3.png", 128, 128)
    message = refusal(tmp_path, DataProblem, patient_pattern="(.*)", image_size=128)
    assert message == (
        "2 of 3 images are smaller than image_size = 128: smallest short edge 40. "
        "Set image_size <= 40 or upsample = true."
    )


def test_advice_on_size_is_never_itself_refused(tmp_path):
    film(tmp_path / "a" / "1.png", 6, 6)
    film(tmp_path / "b" / "2.png")
    message = refusal(tmp_path, DataProblem, patient_pattern="(.*)")
    assert message.endswith("smallest short edge 6. Set upsample = true.")
    refusal(tmp_path, BadSetting, "image_size = 7", image_size=7)


def test_settings_that_contradict_each_other(tmp_path):
    index, _ = indexed(tmp_path)
    refusal(tmp_path, BadSetting, "`patient_pattern` and `index` are both set", index=str(index), patient_pattern="(.)")
    refusal(tmp_path, BadSetting, "`index` is not set", patient_column="patient_id")
    refusal(tmp_path, BadSetting, "each needs its own column", index=str(index), patient_column="file")


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.2, 0), (0, 0, 0)])
def test_bad_fractions(tmp_path, fractions):
    class_folders(tmp_path)
    refusal(tmp_path, BadSetting, "that sum to 1", patient_pattern=PATTERN, fractions=fractions)


def test_index_is_missing(tmp_path):
    indexed(tmp_path)
    refusal(tmp_path, DataProblem, "`index` does not exist", index=str(tmp_path / f"{PLANTED}.csv"))
    refusal(tmp_path, DataProblem, "`index` does not exist, or is not a file", index=str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"file,label\n\xff\xfe,x\n", b'file,label,patient\n"open,a,b\n', b"a,b\0\nc,d\xff"]
)
def test_index_is_no_csv(tmp_path, content):
    index, _ = indexed(tmp_path)
    index.write_bytes(content)
    refusal(tmp_path, DataProblem, "not a CSV in UTF-8", index=str(index))


@pytest.mark.parametrize("lines", [[], [["file", "label", "patient"]]])
def test_index_without_rows(tmp_path, lines):
    index, _ = indexed(tmp_path)
    write(index, lines)
    refusal(tmp_path, DataProblem, f"has {len(lines)} lines", index=str(index))


def test_missing_column(tmp_path):
    index, _ = indexed(tmp_path, columns=("file", "finding", "patient_id"))
    parts = ("no column 'label', 'patient'", "Its columns: file, finding, patient_id.")
    refusal(tmp_path, DataProblem, *parts, index=str(index))
    settings = {"label_column": "finding", "patient_column": "patient_id"}
    refusal(tmp_path, DataProblem, "no column 'fold'", index=str(index), split_column="fold", **settings)


def test_an_index_without_header_shows_no_patient(tmp_path):
    index, rows = indexed(tmp_path)
    write(index, rows)
    refusal(tmp_path, DataProblem, "its first line is data, not a header", index=str(index))


def test_a_column_twice(tmp_path):
    index, rows = indexed(tmp_path)
    write(index, [["file", "label", "patient", "patient"], *rows])
    refusal(tmp_path, DataProblem, "column 'patient' 2 times", index=str(index))


@pytest.mark.parametrize(
    ("column", "cell", "part"),
    [
        (0, "", "empty cell in column 'file'"),
        (1, " ", "empty cell in column 'label'"),
        (2, "", "empty cell in column 'patient'"),
        (3, "", "empty cell in column 'split'"),
        (3, PLANTED, "no known split in column 'split'"),
        (0, f"films/{PLANTED}-absent.png", "names a file that does not exist"),
        (0, PLANTED * 100, "names a file that does not exist"),
        (0, f"../{PLANTED}.png", "outside of the folder given as `path`"),
        (0, f"films/../../{PLANTED}.png", "outside of the folder given as `path`"),
        (0, f"/etc/{PLANTED}.png", "outside of the folder given as `path`"),
        (0, f"./films/{PLANTED}-sick-train.png", "that an earlier row names too"),
    ],
)
def test_bad_cells(tmp_path, column, cell, part):
    index, rows = indexed(tmp_path / "data")
    film(tmp_path / f"{PLANTED}.png")
    rows[4][column] = cell
    write(index, [["file", "label", "patient", "split"], *rows])
    refusal(tmp_path, DataProblem, "Row 5 of 6", part, "(rows like this: 1)", path=tmp_path / "data", index=str(index))


def test_a_row_with_a_cell_too_many(tmp_path):
    index, rows = indexed(tmp_path)
    write(index, [["file", "label", "patient", "split"], *rows[:-1], [*rows[-1], PLANTED]])
    refusal(tmp_path, DataProblem, "Row 6 of 6", "does not have 4 cells", index=str(index))


def test_a_patient_in_two_splits_of_the_index(tmp_path):
    index, rows = indexed(tmp_path)
    rows[1][2] = rows[0][2]
    write(index, [["file", "label", "patient", "split"], *rows])
    refusal(tmp_path, DataProblem, "1 of 5 patients are in more than one split of column 'split'", index=str(index))


def test_val_and_valid_are_one_split(tmp_path):
    index, rows = indexed(tmp_path)
    rows[0][2:] = rows[1][2:] = ["the same", "valid"]
    rows[1][3] = "VAL"
    write(index, [["file", "label", "patient", "split"], *rows])
    assert Counter(r.split for r in load(tmp_path, index=str(index)).records) == {"val": 3, "train": 1, "test": 2}


# Real films


@needs_real_films
def test_kermany_by_its_index():
    path = REAL / "cxr_kermany"
    data = load(path, image_size=128, index=str(path / "index.csv"), patient_column="patient_id")
    assert data.classes == ("NORMAL", "PNEUMONIA")
    assert len(data.records) == 2680
    assert Counter(record.split for record in data.records) == {"train": 1888, "val": 251, "test": 541}
    patients = {split: {record.patient for record in data.select(split=split)} for split in ("train", "val", "test")}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 2551
    images = data.read([0, 1339, 1340, 2679])
    assert images.shape == (4, 1, 128, 128)
    assert 0.3 < images.mean() < 0.7
    assert images.std() > 0.1
    # The built-in pattern derives the same patients from the names alone.
    by_name = list_class_folders(path)
    assert [entry.patient for entry in by_name.entries] == [record.patient for record in data.records]


@needs_real_films
def test_native_films_in_class_folders():
    data = load(REAL / "cxr_native16", image_size=224, channels=3)
    assert Counter(record.label for record in data.records) == {0: 8, 1: 8}
    # Two of the sixteen films are of one person.
    assert len({record.patient for record in data.records}) == 15
    assert len({(record.patient, record.split) for record in data.records}) == 15
    assert data.read([0, 15]).shape == (2, 3, 224, 224)


@needs_real_films
def test_second_site_by_the_split_of_its_index():
    path = REAL / "cxr_nih"
    settings = {"patient_column": "patient_id", "image_size": 64, "index": str(path / "index.csv")}
    data = load(path, split_column="patient_split", **settings)
    assert Counter(record.split for record in data.records) == {"train": 711, "val": 76, "test": 213}
    # The other split of that index has patients in two splits.
    refusal(path, DataProblem, "in more than one split of column 'repo_split'", split_column="repo_split", **settings)


def test_a_folder_of_torchvision_is_read_as_torchvision_reads_it(tmp_path):
    from torchvision.datasets import ImageFolder

    class_folders(tmp_path)
    theirs, ours = ImageFolder(tmp_path), load(tmp_path, patient_pattern=PATTERN)
    assert tuple(theirs.classes) == ours.classes
    assert [label for _, label in theirs.samples] == [record.label for record in ours.records]
    for number, (picture, _) in enumerate(theirs):
        assert np.array_equal(np.asarray(picture)[..., 0] / np.float32(255), ours.read([number])[0, 0])
