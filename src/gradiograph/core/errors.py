"""The exceptions of Gradiograph.

    GradiographError
    ├── BadInput              the user can mend it: exit code 2, one clear message
    │   ├── UnknownComponent  a name that no component carries
    │   ├── BadSetting        a key or value that a component does not take
    │   ├── DataProblem       a folder, an index or an image that cannot be used
    │   ├── WeightsProblem    a file of weights that is unsafe or does not fit
    │   ├── MissingKnowledge  an attack needs what the threat model does not grant
    │   ├── MissingExtra      a package that an optional part needs is not installed
    │   ├── NotMeasured       one cell of an audit has no result; the audit goes on without it
    │   └── TrainingFailed    a federation that cannot go on: too few usable updates, or weights that are not finite
    └── LogProblem            a run's folder on disk is not what it should be

Every message names the value, what is allowed, and the next step. No message carries a path, a file name or
an identifier of a patient: images are named by their position in the sorted listing.
"""

from __future__ import annotations

from difflib import get_close_matches
from traceback import walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class GradiographError(Exception):
    """Base of every error that Gradiograph raises on purpose."""


class BadInput(GradiographError):
    """The user's input cannot be used; the message says what to change."""


class UnknownComponent(BadInput):
    """No component of this kind has this name."""


class BadSetting(BadInput):
    """A component was given a key or a value that it does not take."""


class DataProblem(BadInput):
    """A folder, an index or an image cannot be used."""


class WeightsProblem(BadInput):
    """A file of weights is unsafe to load or does not fit the model."""


class MissingKnowledge(BadInput):
    """An attack needs something that the threat model does not grant."""


class MissingExtra(BadInput):
    """An optional part was asked for, and the package that it needs is not installed."""


class NotMeasured(BadInput):
    """A cell of an audit can have no result."""


class TrainingFailed(BadInput):
    """A federation cannot go on: too few clients sent a usable update, or the weights are no longer finite."""


class LogProblem(BadInput):
    """A run's folder is missing, is in the way, or was written by another version."""


def reason(error: BaseException) -> str:
    """Why something failed, as it may be written down: a foreign error's message may name a file, so its kind stands.

    >>> reason(NotMeasured("The update is not finite.")), reason(ValueError("patient 7"))
    ('The update is not finite.', 'ValueError')
    """
    if isinstance(error, GradiographError):
        return str(error)
    frames = [(frame.f_globals.get("__name__", ""), line) for frame, line in walk_tb(error.__traceback__)]
    own = [(module, line) for module, line in frames if module.startswith("gradiograph.")]
    return f"{type(error).__name__} in {own[-1][0]}, line {own[-1][1]}" if own else type(error).__name__


def nearest(name: str, valid: Iterable[str]) -> str:
    """The sentence that follows an unknown name: the nearest valid one, then all of them.

    >>> nearest("rgo", ["rog", "dlg"])
    "Did you mean 'rog'? Valid: dlg, rog."
    """
    choices = sorted(valid)
    close = get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {', '.join(choices) or 'none'}."
