"""Words and numbers that nobody has: each is drawn once, and none holds another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

_CONSONANTS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u")
_LATIN = {"a": "ä", "e": "é", "o": "ö", "u": "ü"}
_CYRILLIC = dict(zip("abdefghiklmnoprstuvzq", "абдефгхиклмнопрстувзк", strict=True))
_KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン"
LENGTH = 8  # a shorter value would be found by chance


class Mint:
    """Draws values that it has not drawn before; not shared between processes.

    Args:
        rng: Where they come from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn: set[str] = set()

    def word(self, script: str = "latin") -> str:
        """A capitalised word of at least 8 letters that reads like a name.

        Args:
            script: "latin" (ASCII), "accented" (Latin-1), "cyrillic" or "katakana".
        """
        return self._new(lambda: _SCRIPTS[script](self._rng))

    def number(self, pattern: str) -> str:
        """A pattern with each `#` a digit (the first of a run is never 0) and each `@` a capital letter."""
        return self._new(lambda: _fill(self._rng, pattern))

    def _new(self, draw: Callable[[], str]) -> str:
        while True:
            value = draw()
            if len(value) >= LENGTH and value.casefold() not in self._drawn:
                self._drawn.add(value.casefold())
                return value


def _latin(rng: np.random.Generator) -> str:
    count = rng.integers(4, 6)
    return "".join(str(rng.choice(_CONSONANTS)) + str(rng.choice(_VOWELS)) for _ in range(count)).capitalize() + "x"


def _accented(rng: np.random.Generator) -> str:
    word = _latin(rng)
    place = max(word.rfind(vowel) for vowel in _LATIN)
    return word[:place] + _LATIN[word[place]] + word[place + 1 :] if place >= 0 else word + "ö"


def _cyrillic(rng: np.random.Generator) -> str:
    return "".join(_CYRILLIC.get(letter, "ж") for letter in _latin(rng).lower()).capitalize()


def _katakana(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(_KATAKANA), size=LENGTH))


_SCRIPTS = {"latin": _latin, "accented": _accented, "cyrillic": _cyrillic, "katakana": _katakana}


def _fill(rng: np.random.Generator, pattern: str) -> str:
    drawn, before = [], ""
    for symbol in pattern:
        low = 0 if before == "#" else 1
        digit = str(rng.integers(low, 10))
        drawn.append({"#": digit, "@": chr(ord("A") + int(rng.integers(0, 26)))}.get(symbol, symbol))
        before = symbol
    return "".join(drawn)
