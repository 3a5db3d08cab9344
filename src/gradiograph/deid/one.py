"""One DICOM file, de-identified from its bytes to its bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradiograph.core.errors import DataProblem
from gradiograph.deid.blacken import Blackened, Finder, blacken_text
from gradiograph.deid.codestream import strip_comments
from gradiograph.deid.dataset import deidentify_dataset
from gradiograph.deid.dicom_file import add_header, check_pixels, declare, read_dicom, silent, write_dicom
from gradiograph.deid.faces import shows_a_face
from gradiograph.deid.graphics import clean_overlays, clear_unused_bits
from gradiograph.deid.options import Option
from gradiograph.deid.source import text_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from gradiograph.deid.profile import Profile
    from gradiograph.deid.pseudonyms import Pseudonyms

_STUDY, _SERIES, _LETTERS = 0x0020000D, 0x0020000E, 8
_CHANCE: Final = 8  # letters; a shorter name stands in many bytes by chance
FACE: Final = "head volume: a face can be made from it"
"""The warning of `Made` for a scan of the head."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A de-identified file.

    Attributes:
        content: Its bytes.
        place: Folders under which it belongs, all pseudonyms; none where its path in the input says it.
        counts: How many elements, by what was done to them.
        pixels: What was done to its pixels.
        warnings: What nothing was done about.
    """

    content: bytes = field(repr=False)
    counts: Counter[str]
    place: tuple[str, ...] = ()
    pixels: Blackened = field(default_factory=Blackened)
    warnings: tuple[str, ...] = ()


def deidentify_dicom(content: bytes, profile: Profile, pseudonyms: Pseudonyms, finder: Finder | None) -> Made:
    """De-identify a DICOM file.

    Args:
        content: The whole file.
        profile: The profile and its options.
        pseudonyms: Under the site's key.
        finder: Finds text in pixels and overlays; without it pixels stay as they are, and overlays go.

    Raises:
        DataProblem: the file is refused, and why.
    """
    with silent():
        return _deidentify(content, profile, pseudonyms, finder)


def _deidentify(content: bytes, profile: Profile, pseudonyms: Pseudonyms, finder: Finder | None) -> Made:
    source = read_dicom(content)
    check_pixels(source)
    done = deidentify_dataset(source, profile, pseudonyms)
    made = done.dataset
    add_header(made, source)
    clear_unused_bits(made, source)
    strip_comments(made)
    pixel_bytes = made.get("PixelData", b"")
    if not isinstance(pixel_bytes, bytes):
        msg = "The pixel data are not bytes: the file is damaged."
        raise DataProblem(msg)
    if done.identifiers.within_bytes(pixel_bytes, _CHANCE):
        msg = "Text of the header stands in the bytes of the pixels: the file is damaged."
        raise DataProblem(msg)
    if Option.CLEAN_GRAPHICS in profile.options:
        clean_overlays(made, finder)
    pixels = Blackened()
    if Option.CLEAN_PIXELS in profile.options and finder is not None:
        pixels = blacken_text(made, finder)
        if pixels.frames:
            made.BurnedInAnnotation = "NO"
    declare(made, profile)
    return Made(
        content=write_dicom(made),
        place=(done.patient, *_place(source, pseudonyms)),
        counts=done.counts,
        pixels=pixels,
        warnings=(FACE,) if shows_a_face(source) else (),
    )


def _place(source: Dataset, pseudonyms: Pseudonyms) -> tuple[str, str]:
    study, series = (text_of(source, tag) for tag in (_STUDY, _SERIES))
    return pseudonyms.name("study", study)[:_LETTERS], pseudonyms.name("series", series)[:_LETTERS]
