"""The audit's record on disk: a header, one folder per cell, the victims, a long table. Reads without torch."""

from gradiograph.log.cell import Cell, cell_id
from gradiograph.log.log import VERSION, Log
from gradiograph.log.retention import Purge, purge, require_kept, retained_until
from gradiograph.log.trainings import ModelCell, Trainings
from gradiograph.log.victims import Victims

__all__ = [
    "VERSION",
    "Cell",
    "Log",
    "ModelCell",
    "Purge",
    "Trainings",
    "Victims",
    "cell_id",
    "purge",
    "require_kept",
    "retained_until",
]
