"""A folder of DICOM and NIfTI files, de-identified into another: side by side, resumable, originals never touched."""

from __future__ import annotations

import json
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import BadInput, BadSetting, LogProblem
from gradiograph.deid.blacken import Finder
from gradiograph.deid.dicom_file import is_index
from gradiograph.deid.journal import EVIDENCE, JOURNAL, Entry, evidence, head, read_journal
from gradiograph.deid.medium import PENDING, write_media
from gradiograph.deid.names import new_name
from gradiograph.deid.one import Made, deidentify_dicom
from gradiograph.deid.options import Option
from gradiograph.deid.profile import EDITION, Profile
from gradiograph.deid.pseudonyms import Pseudonyms
from gradiograph.deid.text import TextFinder
from gradiograph.deid.volume import deidentify_volume, is_of_a_volume
from gradiograph.deid.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_TABLE = f"{EDITION}, Table E.1-1"
_QUEUE = 4  # files that wait for each worker
_FILE_NAME = 8  # letters


@dataclass(frozen=True)
class Task:
    """A file to de-identify.

    Attributes:
        number: Its place in the sorted listing, from 1.
        path: Where it lies.
        name: Its path within the input folder.
    """

    number: int
    path: Path
    name: str


@dataclass(frozen=True)
class Worker:
    """What de-identifies one file after the other.

    Attributes:
        out: The output folder.
        profile: The profile and its options.
        pseudonyms: Under the site's key.
        finder: Finds burned-in text; None where pixels are left alone.
    """

    out: Path
    profile: Profile
    pseudonyms: Pseudonyms
    finder: Finder | None = None

    def ready(self) -> Worker:
        """The same, with the networks loaded where they are needed."""
        needed = self.profile.options & {Option.CLEAN_PIXELS, Option.CLEAN_GRAPHICS}
        return replace(self, finder=TextFinder()) if needed else self

    def __call__(self, task: Task) -> Entry:
        """De-identify a file and write it whole, or say why not."""
        entry = Entry(file=self.pseudonyms.name("file", task.name), number=task.number)
        try:
            content = task.path.read_bytes()
            if is_index(content):
                return replace(entry, output=PENDING)
            made, place = self._made(content, task.name, entry.file)
            write_whole(self.out / place, made.content)
        except BadInput as error:
            return replace(entry, reason=str(error))
        except OSError as error:
            return replace(entry, reason=f"The file cannot be read or written ({error.strerror}).")
        except MemoryError:
            return replace(entry, reason="The file needs more memory than there is.")
        except Exception as error:  # one file must not end the others' run; its message may quote a value
            return replace(entry, reason=f"The file cannot be de-identified ({type(error).__name__}).")
        pixels = {key: round(value, 6) for key, value in asdict(made.pixels).items() if value}
        return replace(entry, output=place, counts=dict(made.counts), pixels=pixels, warnings=made.warnings)

    def _made(self, content: bytes, name: str, file: str) -> tuple[Made, str]:
        """The new file, and its path in the output."""
        if is_of_a_volume(name):
            return deidentify_volume(content, name, self.profile, self.pseudonyms), new_name(name, self.pseudonyms)
        made = deidentify_dicom(content, self.profile, self.pseudonyms, self.finder)
        # The file's own name is in it: two files that claim the same UID must not overwrite each other.
        return made, "/".join((*made.place, f"{file[:_FILE_NAME]}.dcm"))


def deidentify_folder(
    source: Path,
    out: Path,
    profile: Profile,
    pseudonyms: Pseudonyms,
    *,
    workers: int = 1,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """De-identify every file of a folder.

    Args:
        source: The folder, or one file.
        out: A new or empty folder; with `resume`, that of a run to go on with.
        profile: The profile and its options.
        pseudonyms: Under the site's key.
        workers: Processes; with one, this process does the work.
        resume: Go on: files that the log in `out` lists as done stay.
        progress: Told how many of how many files are done.

    Returns:
        The evidence, as written to `deidentification.json` in `out`.

    Raises:
        BadSetting: the folders are in each other, the input is missing, or there is nothing in it.
        LogProblem: `out` is not empty, or its log is damaged.
    """
    tasks = list(_tasks(source, out))
    journal = out / JOURNAL
    first = head(_TABLE, profile.codes, pseudonyms.name("key", "check"))
    kept = _kept(out, tasks, pseudonyms, first) if resume else _none(out)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(journal, _lines(first, kept))
    done = {entry.file for entry in kept}
    left = [task for task in tasks if pseudonyms.name("file", task.name) not in done]
    worker = Worker(out, profile, pseudonyms)
    entries = list(kept)
    with journal.open("a", encoding="utf-8") as log:
        for entry in _run(worker, left, workers):
            log.write(entry.line())
            log.flush()
            entries.append(entry)
            progress(len(entries), len(tasks))
    entries = write_media(out, entries, {task.number: task.name for task in tasks}, pseudonyms)
    entries.sort(key=lambda entry: entry.number)
    write_whole(journal, _lines(first, entries))
    found = evidence(entries, profile=_TABLE, codes=profile.codes)
    write_whole(out / EVIDENCE, (json.dumps(found, indent=1) + "\n").encode())
    return found


def _tasks(source: Path, out: Path) -> Iterator[Task]:
    if not source.exists():
        msg = "The input does not exist; give a file or a folder of DICOM and NIfTI files."
        raise BadSetting(msg)
    inside, outside = source.resolve(), out.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        msg = "Input and output lie in each other; give an output folder outside the input: originals stay as they are."
        raise BadSetting(msg)
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        msg = "The input folder holds no file."
        raise BadSetting(msg)
    root = source.parent if source.is_file() else source
    for number, path in enumerate(files, 1):
        yield Task(number, path, path.relative_to(root).as_posix())


def _none(out: Path) -> list[Entry]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = "The output folder exists and is not empty; choose another, or go on with --resume."
        raise LogProblem(msg)
    return []


def _kept(out: Path, tasks: Iterable[Task], pseudonyms: Pseudonyms, first: str) -> list[Entry]:
    """The entries of an earlier run whose files are still there, in input and output."""
    numbers = {pseudonyms.name("file", task.name): task.number for task in tasks}
    earlier = read_journal(out / JOURNAL, first)
    there = [entry for entry in earlier if entry.file in numbers and entry.output and (out / entry.output).is_file()]
    return [replace(entry, number=numbers[entry.file]) for entry in there]


def _lines(first: str, entries: Iterable[Entry]) -> bytes:
    return "".join([first, *(entry.line() for entry in entries)]).encode()


def _run(worker: Worker, tasks: list[Task], workers: int) -> Iterator[Entry]:
    if workers == 1:
        ready = worker.ready()
        yield from map(ready, tasks)
        return
    waiting = iter(tasks)
    while batch := [task for task, _ in zip(waiting, range(workers * 256), strict=False)]:
        finished: set[int] = set()
        try:
            for entry in _pooled(worker, batch, workers):
                finished.add(entry.number)
                yield entry
        except BrokenProcessPool:
            yield from (_alone(worker, task) for task in batch if task.number not in finished)


def _pooled(worker: Worker, tasks: Iterable[Task], workers: int) -> Iterator[Entry]:
    waiting = iter(tasks)
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(worker,)) as pool:
        running: set[Future[Entry]] = set()
        while True:
            running |= {
                pool.submit(_do, task) for _, task in zip(range(workers * _QUEUE - len(running)), waiting, strict=False)
            }
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)


def _alone(worker: Worker, task: Task) -> Entry:
    """A file that may have killed the process that decoded it, in a process of its own."""
    try:
        (entry,) = _pooled(worker, [task], 1)
    except BrokenProcessPool:
        reason = "A decoder crashed over the file; convert it with another tool and try again."
        return Entry(file=worker.pseudonyms.name("file", task.name), number=task.number, reason=reason)
    return entry


_ready: Worker | None = None


def _begin(worker: Worker) -> None:
    global _ready
    _ready = worker.ready()


def _do(task: Task) -> Entry:
    if _ready is None:
        msg = "The process was not begun."
        raise RuntimeError(msg)
    return _ready(task)
