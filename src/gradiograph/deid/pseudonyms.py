"""Keyed pseudonyms: the same original always gets the same one, and without the key nobody can tell which."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from base64 import b32encode
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from pathlib import Path

_KEY_BYTES = 32
_DAYS = 3650  # dates move back by up to ten years


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under a site's key, by HMAC-SHA256.

    Whoever holds the key can tell whether a known original belongs to a pseudonym: it stays with the site.

    Attributes:
        key: 32 bytes of the site's own.
    """

    key: bytes = field(repr=False)

    def uid(self, original: str) -> str:
        """Another UID, below 2.25, as PS3.5 Annex B.2 makes them from UUIDs."""
        return f"2.25.{UUID(bytes=self._digest('uid', original.strip())[:16], version=4).int}"

    def name(self, kind: str, original: str) -> str:
        """16 letters and digits for an original of this kind: a patient, a study, a file."""
        return b32encode(self._digest(kind, original)[:10]).decode()

    def days(self, patient: str) -> int:
        """How many days the dates of this patient move; from -3650 to -1, the same for all of the patient's dates."""
        return -1 - int.from_bytes(self._digest("days", patient)[:8], "big") % _DAYS

    def _digest(self, kind: str, original: str) -> bytes:
        return _hmac(self.key, f"{kind}\0{original}")


@lru_cache(maxsize=65536)
def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode("utf-8", "surrogatepass"), hashlib.sha256)


def read_key(path: Path) -> Pseudonyms:
    """The pseudonyms under the key in a file; a file that is not there is made, with a new key, for its owner only.

    Raises:
        BadSetting: others can read the file, or it holds no key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _existing(path)
    except OSError as error:
        msg = f"The key file cannot be made ({error.strerror}); name another with --key FILE."
        raise BadSetting(msg) from None
    key = secrets.token_bytes(_KEY_BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
    return Pseudonyms(key)


def _existing(path: Path) -> Pseudonyms:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except (OSError, ValueError):
        key, mode = b"", 0
    if len(key) != _KEY_BYTES:
        msg = f"The key file must hold {_KEY_BYTES} bytes as hexadecimal digits; name the right one with --key FILE."
        raise BadSetting(msg)
    if stat.S_IMODE(mode) & 0o077:
        msg = f"The key file can be read by others (mode {stat.S_IMODE(mode):o}); make it yours alone: chmod 600 FILE."
        raise BadSetting(msg)
    return Pseudonyms(key)
