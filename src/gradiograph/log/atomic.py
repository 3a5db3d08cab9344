"""Files and folders that exist whole or not at all, readable by their owner only."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradiograph.core.errors import LogProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PREFIX = ".tmp-"
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM})
"""What a disk says that is full or cannot be written."""


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, sync, and rename onto `path`; mode 0600.

    Raises:
        LogProblem: the disk is full or cannot be written; what was there before is there still.
    """
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    try:
        with _told_of_the_disk():
            write_new(temporary, content)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_new(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file that is not there yet, for a folder of `new_folder`, which is atomic as a whole; mode 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make the folder, if need be, with mode 0700."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` when the block ends and removed when it raises.

    Raises:
        LogProblem: the disk is full or cannot be written.
    """
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _told_of_the_disk():
            make_folder(path.parent)
            make_folder(temporary)
            yield temporary
            _sync_folder(temporary)
            temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def read_folder(path: Path) -> dict[str, bytes]:
    """The files of a folder that `new_folder` made, by name."""
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """The folder of these files, whole or not at all.

    Raises:
        LogProblem: the disk is full or cannot be written.
    """
    with new_folder(path) as folder:
        for name, content in files.items():
            write_new(folder / name, content)


def remove_folder(path: Path) -> None:
    """Remove a folder: it is gone at once, as a whole."""
    doomed = _temporary(path)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def is_vacant(path: Path) -> bool:
    """Whether this is a folder in which nothing was ever finished."""
    return path.is_dir() and all(is_temporary(entry) for entry in path.iterdir())


def is_temporary(path: Path) -> bool:
    """Whether the name is one that this module writes under."""
    return path.name.startswith(_PREFIX)


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted write left in `folder`, but not what another living process is writing now."""
    for path in folder.glob(f"{_PREFIX}*"):
        if _writer_lives(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _told_of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        msg = (
            f"The run's folder cannot be written ({error.strerror}). Make room or mend the disk, then continue with "
            "--resume: what was finished is there, whole."
        )
        raise LogProblem(msg) from None


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{path.name}.{os.getpid()}")


def _writer_lives(path: Path) -> bool:
    """A report may be rendered while a run is going on: the name's last part is the process that writes it."""
    writer = path.name.rpartition(".")[2]
    if not writer.isdecimal() or int(writer) in (0, os.getpid()):
        return False
    try:
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
