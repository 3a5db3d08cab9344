"""Silence for the libraries that read files: their warnings and log lines quote what stands in them."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TALKATIVE = ("pydicom", "openjpeg", "pylibjpeg", "PIL", "nibabel", "nibabel.global")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings and log lines of pydicom, its decoders, Pillow and nibabel out, those of their parts too."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(logger.propagate, logger.disabled) for logger in loggers]
    nowhere = logging.NullHandler()
    for logger in loggers:
        logger.addHandler(nowhere)
        logger.propagate, logger.disabled = False, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (propagate, disabled) in zip(loggers, before, strict=True):
            logger.removeHandler(nowhere)
            logger.propagate, logger.disabled = propagate, disabled
