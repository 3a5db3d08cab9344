"""The scan of a folder for residual identifiers."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from gradiograph.core.errors import BadSetting
from gradiograph.deid.journal import EVIDENCE, JOURNAL
from gradiograph.deid.residue.finding import Finding, Sight
from gradiograph.deid.residue.headers import scan_header
from gradiograph.deid.residue.names import scan_name
from gradiograph.deid.residue.pictures import scan_metadata
from gradiograph.deid.residue.pixels import scan_dicom_pixels, scan_picture
from gradiograph.deid.residue.texts import scan_json, scan_table
from gradiograph.deid.residue.volumes import scan_volume
from gradiograph.deid.text import TextFinder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

FILM_NOTICE = (
    "A clean header does not make a film de-identified beyond recognition: a chest radiograph itself identifies its "
    "patient. A network tells whether two are of one patient with an AUC of 0.994 (Packhaeuser et al. 2022, "
    "doi 10.1038/s41598-022-19045-3)."
)
HEAD_NOTICE = (
    "Head volumes carry the patient's face (letter Q) unless it was removed; this scan does not look for faces."
)


@dataclass(frozen=True, kw_only=True)
class Residue:
    """What a scan found; no value, no path.

    Attributes:
        files: How many were looked at.
        findings: Sorted by file.
        unchecked: What was not looked at, and in how many files.
        declared: How many say that their patient's identity was removed.
        profiles: The codes that they declare, and how many do.
        notices: What holds even where nothing was found.
    """

    files: int
    findings: tuple[Finding, ...]
    unchecked: dict[str, int]
    declared: int
    profiles: dict[str, int]
    notices: tuple[str, ...]

    @property
    def identified(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)

    @property
    def identified_files(self) -> int:
        """In how many files."""
        return len({finding.file for finding in self.findings})

    def by_letter(self) -> dict[str, int]:
        """The number of files with a finding, by letter."""
        return dict(sorted(Counter(letter for _, letter in {(f.file, f.letter) for f in self.findings}).items()))

    def by_place(self) -> dict[tuple[str, str], int]:
        """The number of files with a finding, by letter and by what it is in."""
        return dict(sorted(Counter((letter, where) for _, letter, where in self._places()).items()))

    def _places(self) -> set[tuple[int, str, str]]:
        return {(finding.file, finding.letter, finding.where) for finding in self.findings}


def scan(
    folder: Path,
    *,
    pixels: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Residue:
    """Look for residual identifiers in all files below a folder, or in one file.

    Args:
        folder: Or a file.
        pixels: In how many files, evenly spaced, to read the text in pixels; None: in all. Needs the extra `ocr`.
        workers: Processes.
        progress: Called with the files done and all files.

    Raises:
        BadSetting: there is no file, or no `ocr` where pixels are to be read.
    """
    files = files_of(folder)
    if not files:
        msg = "There is no file to scan; give a folder of images, or one file."
        raise BadSetting(msg)
    count = len(files) if pixels is None else min(pixels, len(files))
    if count:
        _finder()
    chosen = {place * len(files) // count for place in range(count)}
    root = folder if folder.is_dir() else folder.parent
    jobs = [
        Job(number + 1, path, path.relative_to(root).as_posix(), pixels=number in chosen)
        for number, path in enumerate(files)
    ]
    return summarise(_scan_all(jobs, workers, progress))


@dataclass(frozen=True)
class Job:
    """A file to look at: its position, where it lies, its name inside of the folder, whether its pixels are read."""

    number: int
    path: Path
    name: str
    pixels: bool


def scan_file(job: Job) -> Sight:
    """What is to be seen of one file."""
    path, pixels, sight = job.path, job.pixels, Sight(job.number)
    scan_name(job.name, sight)
    if path.name in (EVIDENCE, JOURNAL):
        return sight  # the log of `deidentify`, in its own words
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        scan_volume(path, sight)
    elif lower.endswith(".json"):
        scan_json(path, sight)
    elif lower.endswith((".csv", ".tsv")):
        scan_table(path, sight)
    elif lower.endswith(PICTURES):
        scan_metadata(path, sight)
        if pixels:
            scan_picture(path, sight, _finder())
    else:
        _scan_dicom(path, sight, pixels=pixels)
    if not pixels and not lower.endswith((".json", ".csv", ".tsv")):
        sight.unchecked.add("text in pixels")
    return sight


def summarise(sights: Sequence[Sight]) -> Residue:
    """Everything that was seen, together."""
    notices = [FILM_NOTICE] * any(sight.film for sight in sights) + [HEAD_NOTICE] * any(sight.head for sight in sights)
    return Residue(
        files=len(sights),
        findings=tuple(sorted(finding for sight in sights for finding in sight.findings)),
        unchecked=dict(sorted(Counter(reason for sight in sights for reason in sight.unchecked).items())),
        declared=sum(sight.declared for sight in sights),
        profiles=dict(sorted(Counter(code for sight in sights for code in sight.profile).items())),
        notices=tuple(notices),
    )


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, or the file itself, sorted."""
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())


def _scan_dicom(path: Path, sight: Sight, *, pixels: bool) -> None:
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, OSError):
        sight.unchecked.add("files that are neither DICOM nor NIfTI nor images")
        return
    except Exception:
        sight.unchecked.add("DICOM files that cannot be read")
        return
    scan_header(dataset, sight)
    if pixels:
        scan_dicom_pixels(dataset, sight, _finder())


def _scan_all(
    jobs: Sequence[Job],
    workers: int,
    progress: Callable[[int, int], None],
) -> list[Sight]:
    if workers == 1:
        return _collect(map(scan_file, jobs), len(jobs), progress)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return _collect(pool.map(scan_file, jobs, chunksize=4), len(jobs), progress)


def _collect(sights: Iterable[Sight], total: int, progress: Callable[[int, int], None]) -> list[Sight]:
    collected = []
    for sight in sights:
        collected.append(sight)
        progress(len(collected), total)
    return collected


@lru_cache(maxsize=1)
def _finder() -> TextFinder:
    return TextFinder()
