"""A run's folder: what was asked, what ran, one row per record, and the pictures to score again."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import LogProblem
from gradiograph.log.atomic import (
    is_temporary,
    is_vacant,
    make_folder,
    new_folder,
    read_folder,
    remove_folder,
    remove_leftovers,
    write_file,
    write_folder,
    write_new,
)
from gradiograph.log.cell import Cell
from gradiograph.log.pictures import fill_images, mark_of, pack_masks, unpack, unpack_masks
from gradiograph.log.rows import place, read_lines, to_csv, to_lines
from gradiograph.log.trainings import Trainings
from gradiograph.log.victims import Victims, fill_victims, read_victims

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gradiograph.core.records import Row

VERSION = 1
_HEADER = "audit.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Log:
    """The audit's record on disk, safe against interruption; all of it is readable by its owner only.

    Made by `Log.create` or `Log.open`, never directly.
    """

    def __init__(self, directory: Path, header: dict[str, Any]) -> None:
        self._directory = directory
        self._header = header

    @classmethod
    def create(cls, directory: Path | str, header: dict[str, Any]) -> Log:
        """Start a log in a new or empty folder.

        Args:
            directory: Where; parents are made.
            header: What `audit.json` says; `version` is set here.

        Raises:
            LogProblem: the folder exists and is not empty.
        """
        directory = Path(directory)
        if directory.exists() and not is_vacant(directory):
            msg = "The output folder exists and is not empty; choose another --out or continue it with --resume."
            raise LogProblem(msg)
        make_folder(directory)
        log = cls(directory, {})
        log.update(**header, version=VERSION)
        return log

    @classmethod
    def open(cls, directory: Path | str) -> Log:
        """Open a log, removing what an interrupted write left behind.

        Raises:
            LogProblem: the folder holds no run, or one of another version.
        """
        directory = Path(directory)
        try:
            header = json.loads((directory / _HEADER).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            msg = "The folder given holds no run (no audit.json); give the folder that `gradiograph run --out` wrote."
            raise LogProblem(msg) from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            msg = "The run's audit.json is not valid JSON; restore it from a backup or run the audit again."
            raise LogProblem(msg) from None
        version = header.get("version") if isinstance(header, dict) else None
        if version != VERSION:
            msg = (
                f"The run was written in log version {version!r}; this Gradiograph reads version {VERSION}. "
                "Use the Gradiograph that wrote it, or run the audit again."
            )
            raise LogProblem(msg)
        for folder in (directory, directory / "cells", directory / "victims", *Trainings(directory).folders):
            remove_leftovers(folder)
        return cls(directory, header)

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return self._directory

    @property
    def trainings(self) -> Trainings:
        """The trainings of the utility: their checkpoints, and what they predict."""
        return Trainings(self._directory)

    @property
    def header(self) -> dict[str, Any]:
        """What `audit.json` says: a copy, changed through `update`."""
        copy: dict[str, Any] = json.loads(json.dumps(self._header))
        return copy

    def update(self, **changes: object) -> None:
        """Replace these entries of the header, on disk and here."""
        header = {**self._header, **changes}
        text = json.dumps(header, indent=2, ensure_ascii=False) + "\n"
        write_file(self._directory / _HEADER, text.encode())
        self._header = json.loads(text)

    def has_cell(self, cell_id: str) -> bool:
        """Whether the cell is there, which means all of it is."""
        return (self._cell_folder(cell_id) / "cell.json").is_file()

    def write_cell(
        self, cell: Cell, rows: Sequence[Row], images: NDArray[Any] | None, masks: NDArray[np.int64] | None = None
    ) -> None:
        """Write a cell whole.

        Args:
            cell: What it was.
            rows: Its values, all finite.
            images: (B, C, H, W) in [0, 1] in the victims' order; None where there are none.
            masks: (B, H, W), indices of structures, in the same order; None where none were read.

        Raises:
            LogProblem: the cell is there already.
            ValueError: a value is not finite.
        """
        if self.has_cell(cell.id):
            msg = f"Cell {cell.id} is in the log already; score it anew with `gradiograph score`."
            raise LogProblem(msg)
        lines = to_lines(rows)
        with new_folder(self._cell_folder(cell.id)) as folder:
            write_new(folder / "rows.jsonl", lines)
            if images is not None:
                fill_images(folder, images, mark_of(cell.control))
            if masks is not None:
                write_new(folder / "masks.npz", pack_masks(masks))
            write_new(folder / "cell.json", (json.dumps(asdict(cell), indent=1) + "\n").encode())

    def files(self, cell_id: str) -> dict[str, bytes]:
        """A cell's files by name, for another log.

        Raises:
            LogProblem: it is not in the log.
        """
        return read_folder(self._existing_cell(cell_id))

    def add(self, cell_id: str, files: Mapping[str, bytes]) -> None:
        """Put in a cell that another log holds, given its files."""
        write_folder(self._cell_folder(cell_id), files)

    def forget_failed(self) -> None:
        """Remove the cells and trainings that failed, so that a run that continues tries them again."""
        for cell in self.cells():
            if cell.failed:
                remove_folder(self._cell_folder(cell.id))
        self.trainings.forget_failed()

    def cell(self, cell_id: str) -> Cell:
        """One cell.

        Raises:
            LogProblem: it is not in the log.
        """
        return _read_cell(self._existing_cell(cell_id))

    def cells(self) -> tuple[Cell, ...]:
        """All cells, sorted by task, protocol, defence, attack, control, batch, seed."""
        return tuple(sorted((_read_cell(folder) for folder in self._cell_folders()), key=lambda cell: cell.place))

    def rows(self) -> tuple[Row, ...]:
        """All rows, in an order that does not depend on the order in which the cells ran."""
        return tuple(
            sorted((row for folder in self._cell_folders() for row in read_lines(folder / "rows.jsonl")), key=place)
        )

    def add_rows(self, cell_id: str, rows: Sequence[Row]) -> None:
        """Add the values of a new metric to a cell; a metric that it has already is replaced as a whole.

        Raises:
            LogProblem: the cell is not in the log.
            ValueError: a value is not finite.
        """
        folder = self._existing_cell(cell_id)
        renewed = {row.metric for row in rows}
        kept = [row for row in read_lines(folder / "rows.jsonl") if row.metric not in renewed]
        write_file(folder / "rows.jsonl", to_lines([*kept, *rows]))

    def images(self, cell_id: str) -> NDArray[np.float32] | None:
        """The cell's images (B, C, H, W) in the victims' order, None where it has none.

        Raises:
            LogProblem: the cell is not in the log.
        """
        path = self._existing_cell(cell_id) / "images.npz"
        return unpack(path) if path.is_file() else None

    def masks(self, cell_id: str) -> NDArray[np.int64] | None:
        """The cell's masks (B, H, W) in the victims' order, None where it has none.

        Raises:
            LogProblem: the cell is not in the log.
        """
        path = self._existing_cell(cell_id) / "masks.npz"
        return unpack_masks(path) if path.is_file() else None

    def write_victims(self, batch: int, records: Sequence[str], labels: Sequence[str], images: NDArray[Any]) -> None:
        """Write the originals of a batch, whole; nothing happens if they are there.

        Args:
            batch: The batch's index.
            records: Keyed pseudonyms of the films.
            labels: Their class names.
            images: (B, C, H, W) in [0, 1].
        """
        if self.has_victims(batch):
            return
        victims = Victims(records=tuple(records), labels=tuple(labels), images=images)
        with new_folder(self._directory / "victims" / str(int(batch))) as folder:
            fill_victims(folder, victims)

    def has_victims(self, batch: int) -> bool:
        """Whether the originals of this batch are there."""
        return (self._directory / "victims" / str(int(batch)) / "victims.json").is_file()

    def victims(self, batch: int) -> Victims:
        """The originals of a batch.

        Raises:
            LogProblem: they are not in the log.
        """
        if not self.has_victims(batch):
            msg = f"The originals of batch {batch} are not in the log; continue the run with --resume."
            raise LogProblem(msg)
        return read_victims(self._directory / "victims" / str(int(batch)))

    def export_csv(self) -> Path:
        """Write all rows to `rows.csv` in the run's folder.

        Returns:
            Where it lies.
        """
        path = self._directory / "rows.csv"
        write_file(path, to_csv(self.rows()))
        return path

    def _cell_folder(self, cell_id: str) -> Path:
        if not _SAFE_NAME.fullmatch(cell_id):
            msg = f"A cell's id has letters, digits, '_' and '-' only; got {cell_id!r}."
            raise ValueError(msg)
        return self._directory / "cells" / cell_id

    def _existing_cell(self, cell_id: str) -> Path:
        if not self.has_cell(cell_id):
            msg = f"Cell {cell_id} is not in the log; continue the run with --resume."
            raise LogProblem(msg)
        return self._cell_folder(cell_id)

    def _cell_folders(self) -> Iterable[Path]:
        return (path for path in (self._directory / "cells").glob("*") if path.is_dir() and not is_temporary(path))


def _read_cell(folder: Path) -> Cell:
    entry = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    return Cell(**entry | {"flags": tuple(entry["flags"]), "objective": tuple(entry["objective"])})
