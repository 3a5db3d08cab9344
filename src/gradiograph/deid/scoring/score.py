"""The score of a de-identification against the answer key of a synthetic set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread

from gradiograph.core.errors import DataProblem
from gradiograph.deid.scoring.headers import HEADER, Examiner, Ledger
from gradiograph.deid.scoring.ink import judge_pixels
from gradiograph.deid.scoring.leaks import Finder
from gradiograph.deid.scoring.options import FULL_DATES, declared_options
from gradiograph.deid.scoring.outputs import files_of, fingerprint, layers
from gradiograph.deid.scoring.reading import reader
from gradiograph.deid.scoring.tally import Tally
from gradiograph.deid.scoring.volumes import judge_sidecar, judge_volume
from gradiograph.deid.synthetic import IMAGES, AnswerKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gradiograph.deid.scoring.tally import Failure
    from gradiograph.deid.synthetic import PlantedFile

WRITTEN, VALUES, NAMES, DECLARED = (
    "files written",
    "files free of planted values",
    "file names clean",
    "method declared",
)


LEAST = 0.9995


@dataclass(frozen=True)
class Scores:
    """The result.

    Attributes:
        tally: Right and total by category, and each failure.
        seed: Of the set.
    """

    tally: Tally
    seed: int

    @property
    def header_actions(self) -> float | None:
        """The share of header actions done right, private and nested elements included."""
        return self.tally.share(*HEADER)

    @property
    def perfect(self) -> bool:
        """Whether nothing failed."""
        return not self.tally.failures

    @property
    def holds(self) -> bool:
        """At least 99.95 % of the header actions, and no planted value left in any file or name."""
        values = self.tally.share(VALUES), self.tally.share(NAMES)
        return (self.header_actions or 0) >= LEAST and values == (1, 1)

    def rows(self) -> Iterator[tuple[str, int, int, float]]:
        """Category, right, total, share; the header actions together first."""
        chosen = [name for name in self.tally.total if name.startswith(HEADER)]
        right, total = (sum(count[name] for name in chosen) for count in (self.tally.right, self.tally.total))
        if total:
            yield "all header actions", right, total, right / total
        for name in sorted(self.tally.total):
            right, total = self.tally.right[name], self.tally.total[name]
            if total:
                yield name, right, total, right / total


def score(
    output: Path,
    key: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score a de-identified copy of a synthetic set.

    Outputs are found again by an element that every profile keeps, never by a name, a UID or a log of the
    de-identifier; what is required comes from an independent rendering of Table E.1-1.

    Args:
        output: The folder that `gradiograph deidentify` wrote.
        key: The set's `key.json`; the originals lie beside it.
        progress: Called with the files done and all files.

    Raises:
        DataProblem: the key or the output cannot be read.

    Source: the manner of MIDI-B, Pei et al. 2025 (arXiv:2507.23608): correct actions of all that are required.
    """
    answers = AnswerKey.read(key)
    outputs = files_of(output)
    if not outputs:
        msg = "The output folder holds no file; give the folder that `gradiograph deidentify IN OUT` wrote."
        raise DataProblem(msg)
    found = _match(outputs)
    keeps_dates = FULL_DATES in _options(found)
    finder, tally = Finder(answers, dates=not keeps_dates), Tally()
    judge = _Judge(key.parent / IMAGES, answers, finder, tally, Examiner(tally=tally, finder=finder, ledger=Ledger()))
    owners: dict[Path, int] = {}
    for number, file in enumerate(answers.files):
        matched = found.get((file.kind, file.spacing), []) if file.spacing else []
        owners |= dict.fromkeys(matched, number)
        if file.spacing:
            tally.add(WRITTEN, right=len(matched) == 1, file=number, note=f"{len(matched)} outputs", place=file.kind)
        if matched:
            judge.compare(number, file, matched[0])
        progress(number + 1, len(answers.files) + len(outputs))
    for done, path in enumerate(outputs):
        judge.search(path, path.relative_to(output).as_posix(), owners.get(path))
        progress(len(answers.files) + done + 1, len(answers.files) + len(outputs))
    return Scores(tally, answers.seed)


@dataclass(frozen=True)
class _Judge:
    originals: Path
    answers: AnswerKey
    finder: Finder
    tally: Tally
    examiner: Examiner

    def compare(self, number: int, file: PlantedFile, output: Path) -> None:
        original = self.originals / file.name
        if file.kind == "dicom":
            self._compare_images(number, file, original, output)
        else:
            judge = judge_volume if file.kind == "nifti" else judge_sidecar
            judge(original, output, number, file.patient, self.tally, self.finder)

    def _compare_images(self, number: int, file: PlantedFile, original: Path, output: Path) -> None:
        before, after = dcmread(original), dcmread(output)
        options = declared_options(after)
        removed = after.get("PatientIdentityRemoved") == "YES" and bool(options)
        self.tally.add(DECLARED, right=removed, file=number)
        self.examiner.judge(before.file_meta, after.file_meta, number, file.patient, options)
        self.examiner.judge(before, after, number, file.patient, options)
        judge_pixels(before.pixel_array, after.pixel_array, file.burns, self.tally, number, reader())

    def search(self, output: Path, name: str, number: int | None) -> None:
        patient = None if number is None else self.answers.files[number].patient
        file = -1 if number is None else number
        leaks = {leak for layer in layers(output) for leak in self.finder.search(layer, patient)}
        told = ", ".join(sorted({leak.kind for leak in leaks}))
        self.tally.add(
            VALUES, right=not leaks, file=file, place=self._where(output, patient) if leaks else "", note=told
        )
        leaks = set(self.finder.search(name.encode("utf-8", "surrogateescape"), patient))
        self.tally.add(NAMES, right=not leaks, file=file, note=", ".join(sorted({leak.kind for leak in leaks})))

    def _where(self, output: Path, patient: int | None) -> str:
        """The elements of a DICOM file that hold a planted value; "bytes" where none does."""
        try:
            dataset = dcmread(output, stop_before_pixels=True)
        except Exception:
            return "bytes"
        places = []
        for part in (dataset.file_meta, dataset):
            for element in part.iterall():
                value = element.value if isinstance(element.value, bytes) else str(element.value).encode("utf-8")
                if element.VR != "SQ" and self.finder.search(value, patient):
                    places.append(str(element.tag))
        return " ".join(places) or "bytes"


def _match(outputs: list[Path]) -> dict[tuple[str, str], list[Path]]:
    found = defaultdict(list)
    for path in outputs:
        found[fingerprint(path)].append(path)
    return found


def _options(found: dict[tuple[str, str], list[Path]]) -> frozenset[str]:
    for (kind, _), paths in found.items():
        if kind == "dicom":
            return declared_options(dcmread(paths[0], stop_before_pixels=True))
    return frozenset()


def describe(failure: Failure) -> str:
    """A failure in one line; the file by its number in the key."""
    return f"{failure.category}: file {failure.file}, {failure.place or 'whole'}: {failure.note or 'not clean'}"
