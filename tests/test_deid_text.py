"""Burned-in text is found and read, whatever its angle and contrast."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont

from gradiograph import deid
from gradiograph.deid.text import TextFinder, to_bytes

WORDS = "DOE JANE 1961-04-30"


@pytest.fixture(scope="module")
def finder():
    return TextFinder()


def film(angle, contrast, size=24):
    """A smooth grey film with a line of text, and where its letters are."""
    rows, columns = np.mgrid[:400, :480]
    grey = 90 + 50 * np.sin(rows / 90) * np.cos(columns / 70)
    line = Image.new("L", (int(size * 14), int(size * 2)))
    ImageDraw.Draw(line).text((size // 2, size // 3), WORDS, font=ImageFont.load_default(size), fill=255)
    turned = Image.new("L", (480, 400))
    stamp = line.rotate(angle, expand=True)
    turned.paste(stamp, ((480 - stamp.width) // 2, (400 - stamp.height) // 2))
    letters = np.asarray(turned) > 127
    return np.clip(grey + contrast * letters, 0, 255).astype(np.uint8), letters


def covered(regions, letters):
    mask = Image.new("L", letters.shape[::-1])
    for region in regions:
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in region.corners], fill=255)
    return (np.asarray(mask) > 0)[letters].mean()


@pytest.mark.parametrize(("angle", "contrast"), [(0, 100), (0, 40), (0, -60), (90, 60), (180, 60), (30, 60)])
def test_text_is_covered(finder, angle, contrast):
    image, letters = film(angle, contrast)
    assert covered(finder.find(image), letters) > 0.97


def test_text_is_read_upside_down_too(finder):
    for angle in (0, 180):
        image, _ = film(angle, 100)
        read = " ".join(region.text for region in finder.find(image))
        assert "1961-04-30" in read


def test_a_film_without_text_has_none(finder):
    image, _ = film(0, 0)
    assert finder.find(image) == ()


def test_what_was_read_stays_out_of_the_repr(finder):
    image, _ = film(0, 100)
    assert "DOE" not in repr(finder.find(image))


def test_any_depth_becomes_bytes():
    ramp = np.linspace(-1000, 3000, 100, dtype=np.float32).reshape(10, 10)
    scaled = to_bytes(ramp.astype(np.int16))
    assert scaled.dtype == np.uint8
    assert scaled.min() == 0
    assert scaled.max() == 255
    assert to_bytes(np.full((4, 4), np.nan)).max() == 0
    assert to_bytes(np.full((4, 4), 7, np.uint16)).max() == 0


def test_a_real_ultrasound_loses_its_text_and_nothing_else(finder):
    content = pydicom.data.get_testdata_file("examples_rgb_color.dcm", read=False)
    before = pydicom.dcmread(content)
    read = " ".join(region.text for region in finder.find(before.pixel_array))
    assert "BAPTIST" in read
    options = frozenset({deid.Option.CLEAN_PIXELS})
    with open(content, "rb") as file:
        made = deid.deidentify_dicom(file.read(), deid.Profile(options), deid.Pseudonyms(bytes(32)), finder)
    after = pydicom.dcmread(io.BytesIO(made.content)).pixel_array
    assert finder.find(after) == ()
    assert after[10:50, 5:100].max() < 30  # the hospital, the numbers, the patient's age
    np.testing.assert_array_equal(after[75:145, 50:270], before.pixel_array[75:145, 50:270])
