"""The trainings of a run on disk: one model of one seed each, as checkpoints while it trains, as predictions then."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gradiograph.core.errors import LogProblem
from gradiograph.core.predictions import Judged, Predictions, Segmentations
from gradiograph.core.privacy import PrivacyEvent
from gradiograph.core.rounds import RoundRecord
from gradiograph.log.atomic import (
    is_temporary,
    make_folder,
    new_folder,
    read_folder,
    remove_folder,
    write_file,
    write_folder,
    write_new,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ModelCell:
    """What one training was and how it went; what its model predicts lies beside it.

    Attributes:
        id: See `cell_id`.
        task: Label of the task; so for protocol and defence.
        arm: "federated", or what it is compared with: "pooled" (all films at one site), "site 0" (that site alone).
        seed: The seed of the run.
        failed: Why the training could not go on; empty where it did, and only then there are predictions.
        history: One record a round, as far as it came.
        events: What it cost in privacy, by site, as far as it came; none without a formal guarantee.
    """

    id: str
    task: str
    protocol: str
    defence: str
    arm: str
    seed: int
    failed: str = ""
    history: tuple[RoundRecord, ...] = ()
    events: tuple[PrivacyEvent, ...] = ()

    @property
    def place(self) -> tuple[str | int, ...]:
        """The key that sorts trainings."""
        return (self.task, self.protocol, self.defence, self.arm, self.seed)


class Trainings:
    """The part of a run's folder that holds trainings; each is there whole or not at all, for its owner only.

    Args:
        directory: The run's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._done = directory / "trainings"
        self._under_way = directory / "checkpoints"

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where finished trainings and checkpoints lie."""
        return self._done, self._under_way

    def has(self, cell_id: str) -> bool:
        """Whether this training is finished."""
        return (self._done / cell_id / "training.json").is_file()

    def write(self, cell: ModelCell, predictions: Judged | None, foreign: Judged | None = None) -> None:
        """Write a finished training whole.

        Args:
            cell: What it was.
            predictions: Of the test films; None where it failed.
            foreign: Of the films of a foreign site; None where there is none.
        """
        with new_folder(self._done / cell.id) as folder:
            for name, found in (("predictions.npz", predictions), ("foreign.npz", foreign)):
                if found is not None:
                    write_new(folder / name, _pack(found))
            write_new(folder / "training.json", (json.dumps(asdict(cell), indent=1) + "\n").encode())

    def files(self, cell_id: str) -> dict[str, bytes]:
        """A finished training's files by name, for another log."""
        return read_folder(self._done / cell_id)

    def add(self, cell_id: str, files: Mapping[str, bytes]) -> None:
        """Put in a finished training that another log holds, given its files."""
        write_folder(self._done / cell_id, files)

    def forget_failed(self) -> None:
        """Remove the trainings that failed, so that they are tried again, from their checkpoints."""
        for cell in self.cells():
            if cell.failed:
                remove_folder(self._done / cell.id)

    def cells(self) -> tuple[ModelCell, ...]:
        """All finished trainings, sorted by task, protocol, defence, arm and seed."""
        found = (path for path in self._done.glob("*") if path.is_dir() and not is_temporary(path))
        return tuple(sorted((_read(path / "training.json") for path in found), key=lambda cell: cell.place))

    def predictions(self, cell_id: str) -> Judged:
        """What a finished training's model says of the test films.

        Raises:
            LogProblem: the training is not there, or failed.
        """
        path = self._done / cell_id / "predictions.npz"
        if not path.is_file():
            msg = f"Training {cell_id} has no predictions in the log; continue the run with --resume."
            raise LogProblem(msg)
        return _unpack(path)

    def foreign(self, cell_id: str) -> Judged | None:
        """What a finished training's model says of the films of the foreign site; None where there is none."""
        path = self._done / cell_id / "foreign.npz"
        return _unpack(path) if path.is_file() else None

    def keep(self, cell_id: str, checkpoint: bytes) -> None:
        """Put a checkpoint in the place of the last one, at once."""
        make_folder(self._under_way)
        write_file(self._under_way / f"{cell_id}.npz", checkpoint)

    def checkpoint(self, cell_id: str) -> bytes | None:
        """The last checkpoint of a training; None where there is none."""
        path = self._under_way / f"{cell_id}.npz"
        return path.read_bytes() if path.is_file() else None


def _pack(predictions: Judged) -> bytes:
    arrays: dict[str, Any] = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpack(path: Path) -> Judged:
    with np.load(path, allow_pickle=False) as stored:
        made = Segmentations if "dice" in stored.files else Predictions
        return made(**{name: stored[name] for name in stored.files})


def _read(path: Path) -> ModelCell:
    entry = json.loads(path.read_text(encoding="utf-8"))
    history = tuple(RoundRecord.read(record) for record in entry["history"])
    events = tuple(PrivacyEvent(**event) for event in entry.get("events", ()))
    return ModelCell(**{**entry, "history": history, "events": events})
