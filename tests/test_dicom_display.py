"""What becomes black and white in a DICOM image: windows, tables, inversion, padding, presets."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_windowing

from gradiograph.data.dicom_display import apply_voi, has_window, read_film
from gradiograph.data.dicom_header import read_header
from gradiograph.data.refusals import Refused
from gradiograph.data.windows import PRESETS, apply_percentiles, apply_window
from medical_specimens import noise, sequence, write_dicom

PIXELS = noise((24, 24), "display")


def words(values) -> bytes:
    """The entries of a table as the file has them."""
    return np.array(list(values), "<u2").tobytes()


def film(path, window="file", pixels=PIXELS, **elements):
    return read_film(read_header(write_dicom(path / "film", pixels, **elements)), 0, window)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("level", "width"), [(2048, 4096), (1000, 300), (40.5, 80), (-100, 5000)])
def test_windows_are_those_of_pydicom(tmp_path, function, level, width):
    elements = {"WindowCenter": level, "WindowWidth": width, "VOILUTFunction": function}
    path = write_dicom(tmp_path / "film", PIXELS, BitsStored=12, HighBit=11, **elements)
    theirs = apply_windowing(PIXELS, pydicom.dcmread(path)) / 4095
    assert np.allclose(read_film(read_header(path), 0, "file"), theirs, atol=2e-4)


@settings(deadline=None)
@given(st.floats(-2000, 2000), st.floats(1, 5000))
def test_a_window_is_a_ramp_between_its_ends(level, width):
    values = np.linspace(level - width, level + width, 101, dtype=np.float32)
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        shown = apply_voi(values, level, width, function)
        assert 0 <= shown.min() <= shown.max() <= 1
        assert (np.diff(shown) >= 0).all()
    exact = apply_voi(values, level, width, "LINEAR_EXACT")
    assert np.allclose(exact, apply_window(values, level, width), atol=1e-3)


def test_a_width_of_one_is_a_step():
    assert apply_voi(np.array([9.4, 9.6], np.float32), 10, 1).tolist() == [0, 1]


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0, "SIGMOID"), (-5, "LINEAR_EXACT"), (9, "CUBIC")])
def test_windows_that_do_not_exist(width, function):
    with pytest.raises(Refused, match="window of width"):
        apply_voi(PIXELS.astype(np.float32), 0, width, function)


def test_more_is_lighter_whatever_the_file_means_by_it(tmp_path):
    plain = film(tmp_path)
    turned = film(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert np.allclose(plain, 1 - turned)
    assert plain[PIXELS.max() == PIXELS].min() == 1


def test_the_table_of_the_file_comes_before_its_window(tmp_path):
    table = sequence({"LUTDescriptor": [256, 100, 8], "LUTData": words(range(256))})
    shown = film(tmp_path, VOILUTSequence=table, WindowCenter=5, WindowWidth=10)
    assert np.allclose(shown, (PIXELS.astype(int) - 100).clip(0, 255) / 255)


def test_the_table_of_the_modality_comes_before_all(tmp_path):
    squares = [number * number % 65536 for number in range(200)]
    table = sequence({"LUTDescriptor": [200, 0, 16], "LUTData": words(squares), "ModalityLUTType": "US"})
    shown = film(tmp_path, [1000, 2000], ModalityLUTSequence=table)
    values = np.array(squares)[PIXELS.clip(0, 199)]
    assert np.allclose(shown, (values / 2000).clip(0, 1), atol=1e-6)


def test_a_table_that_is_shorter_than_it_says(tmp_path):
    table = sequence({"LUTDescriptor": [256, 0, 8], "LUTData": words([1, 2, 3])})
    with pytest.raises(Refused, match="table"):
        film(tmp_path, VOILUTSequence=table)


def test_padding_does_not_set_the_range(tmp_path):
    padded = PIXELS.astype(np.int16)
    padded[:4] = -2000
    shown = film(tmp_path, pixels=padded, PixelPaddingValue=-2000)
    inner = padded[4:]
    assert np.allclose(shown[4:], (inner - inner.min()) / (inner.max() - inner.min()), atol=1e-6)
    assert shown[:4].max() == 0


def test_a_constant_image_is_black(tmp_path):
    assert film(tmp_path, pixels=np.full((9, 9), 7, np.uint8)).max() == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_in_hounsfield_units(tmp_path, preset):
    level, width = PRESETS[preset]
    shown = film(tmp_path, preset, Modality="CT", RescaleSlope=2, RescaleIntercept=-1024)
    hounsfield = PIXELS * 2.0 - 1024
    assert np.allclose(shown, ((hounsfield - level) / width + 0.5).clip(0, 1), atol=1e-5)


def test_a_preset_of_another_modality_is_refused(tmp_path):
    with pytest.raises(Refused, match="is no CT, but the window 'lung' is in Hounsfield units"):
        film(tmp_path, "lung")


def test_whether_a_file_has_a_window(tmp_path):
    assert not has_window(read_header(write_dicom(tmp_path / "a", PIXELS)))
    assert has_window(read_header(write_dicom(tmp_path / "b", PIXELS, WindowCenter=5, WindowWidth=10)))


def test_colours_stay_colours(tmp_path):
    pixels = noise((8, 9, 3), "colour", dtype=np.uint8, high=256)
    assert np.allclose(film(tmp_path, pixels=pixels), pixels / 255)


def test_percentiles_cut_off_the_ends():
    values = np.arange(1001, dtype=np.float32)
    shown = apply_percentiles(values)
    assert np.allclose(shown, ((values - 5) / 990).clip(0, 1), atol=1e-5)
    assert apply_percentiles(np.zeros(9, np.float32)).max() == 0
    mostly = np.array([0] * 999 + [5], np.float32)
    assert apply_percentiles(mostly).max() == 1
