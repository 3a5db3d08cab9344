"""The NIfTI reader on damaged files: it reads them or refuses them, whatever their header says."""

from __future__ import annotations

import gzip

import numpy as np

from gradiograph.core.seeds import numpy_stream
from gradiograph.data.cuts import Patches
from gradiograph.data.nifti_files import open_nifti
from gradiograph.data.refusals import Refused
from gradiograph.data.volumes import Preparation
from medical_specimens import PLANTED, noise, write_nifti


def damaged(whole: bytes, number: int) -> bytes:
    """Odd numbers: fields of the header; even ones: any bytes, before or after compression."""
    rng = numpy_stream(3, "nifti", number)
    content = bytearray(whole)
    if number % 2:
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, 350))
            value = (0, 1, 0x7FFF, 0xFFFF, 0x7FC0, 0x8000)[rng.integers(6)]
            content[at : at + 2] = value.to_bytes(2, "little")
        return gzip.compress(bytes(content), 1)
    packed = bytearray(gzip.compress(whole, 1)) if number % 4 else content
    for at in rng.integers(len(packed), size=4):
        packed[at] = int(rng.integers(256))
    packed = packed[: rng.integers(1, len(packed) + 1)] if number % 3 == 0 else packed
    return bytes(packed) if number % 4 else gzip.compress(bytes(packed), 1)


def test_five_hundred_damaged_volumes(tmp_path, caplog, capfd):
    path = write_nifti(tmp_path / f"{PLANTED}.nii.gz", noise((7, 8, 5), "fuzz", dtype=np.int16))
    whole = gzip.decompress(path.read_bytes())
    read, reasons, cut = 0, set(), Patches((4, 4, 4))
    for number in range(500):
        path.write_bytes(damaged(whole, number))
        try:
            volume = open_nifti(path)
            cut.places(Preparation().shape(volume), Preparation().in_plane(volume))
            values = volume.load()
        except Refused as why:
            reasons.add(str(why))
        else:
            assert values.shape == (volume.channels, *volume.shape)
            read += 1
    assert 50 < read < 450
    assert len(reasons) > 5
    assert PLANTED not in "\n".join((*reasons, caplog.text, *capfd.readouterr()))
