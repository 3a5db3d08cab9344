"""Residual identifiers in the metadata of PNG, JPEG and TIFF files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from gradiograph.deid.residue.patterns import letters_in
from gradiograph.deid.residue.words import has_unknown_words

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.deid.residue.finding import Sight

_GPS = 0x8825
_NAMES = {0x013B, 0x8298, 0x9C9D}  # artist, copyright, author
_TECHNICAL = {"Software", "Make", "Model"}


_ENTRY = re.compile(r"([\w:]+)=\"([^\"]*)\"|<([\w:]+)[^>]*>([^<]+)<")
_OWN = re.compile(
    r"xmlns.*|rdf:.*|.*(Date|ID|Tool|Software|when|action|changed|Profile|Mode|Version|xmptk|instance\w*)"
)


def scan_metadata(path: Path, sight: Sight) -> None:
    """Look at the text chunks, the comments and the EXIF data of a picture."""
    try:
        with Image.open(path) as picture:
            exif, texts = picture.getexif(), {key: value for key, value in picture.info.items() if key != "exif"}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        sight.unchecked.add("pictures that cannot be read")
        return
    for tag, value in exif.items():
        name = str(ExifTags.TAGS.get(tag, tag))
        found = letters_in(str(value)) if isinstance(value, (str, bytes)) else frozenset()
        found |= frozenset("B" if tag == _GPS else "")
        sight.add(
            "text field", name, found or (frozenset("A") if tag in _NAMES and str(value).strip() else frozenset())
        )
    for key, value in ((str(key), value) for key, value in texts.items()):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if key == "xmp" and isinstance(text, str):
            text = _written(text)
        if isinstance(text, str) and key not in ("icc_profile", "photoshop", *_TECHNICAL):
            free = key != "xmp" and has_unknown_words(text)
            found = letters_in(text) or frozenset("A" if free else "")
            sight.add("text field", key, found)


def _written(xmp: str) -> str:
    """What a person wrote into an XMP packet: without its name spaces and what a program notes of itself."""
    entries = ((name or tag, value or text) for name, value, tag, text in _ENTRY.findall(xmp))
    return "; ".join(value.strip() for name, value in entries if not _OWN.fullmatch(name) and value.strip())
