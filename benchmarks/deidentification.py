"""Files a second and peak memory of a de-identification, beside the packages `deid` and `dicognito`.

All take the same synthetic DICOM files, read each, change its header and write it; each runs in a process of its own,
one after the other, so that its peak of memory is its own. What they change differs: `deid` and `dicognito` follow
their default recipes, not Table E.1-1. Only Gradiograph looks for burned-in text wherever it may be, on fewer files, as
that takes its time. Needs the extra `bench`. Run on an idle machine: `python benchmarks/deidentification.py --help`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter

import pydicom

from gradiograph import deid
from gradiograph.deid.scoring import reference_actions
from gradiograph.deid.synthetic.generate import generate
from gradiograph.deid.text import TextFinder

SEED = 20261125


def gradiograph(files: list[Path], out: Path, *options: deid.Option) -> None:
    """Ours: the Basic Profile, with the options given."""
    finder = TextFinder() if deid.Option.CLEAN_PIXELS in options else None
    profile, key = deid.Profile(frozenset(options)), deid.Pseudonyms(bytes(32))
    for number, path in enumerate(files):
        (out / str(number)).write_bytes(deid.deidentify_dicom(path.read_bytes(), profile, key, finder).content)


def with_text(files: list[Path], out: Path) -> None:
    """Ours, with burned-in text."""
    gradiograph(files, out, deid.Option.CLEAN_PIXELS)


def with_dicognito(files: list[Path], out: Path) -> None:
    """`dicognito`, as its documentation shows."""
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer()
    for number, path in enumerate(files):
        with pydicom.dcmread(path) as dataset:
            anonymizer.anonymize(dataset)
            dataset.save_as(out / str(number))


def with_deid(files: list[Path], out: Path) -> None:
    """`deid` with its default recipe, as its documentation shows."""
    from deid.config import DeidRecipe
    from deid.dicom import get_identifiers, replace_identifiers

    recipe = DeidRecipe()
    for number, path in enumerate(files):
        found = get_identifiers([str(path)])
        (made,) = replace_identifiers([str(path)], ids=found, deid=recipe, save=False, remove_private=True)
        made.save_as(out / str(number))


CONTESTANTS = {
    "Gradiograph, headers only": gradiograph,
    "dicognito": with_dicognito,
    "deid": with_deid,
    "Gradiograph, with burned-in text": with_text,
}


def main() -> None:
    """Time all contestants, each in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300, help="synthetic files")
    parser.add_argument("--text-files", type=int, default=40, help="of them, with burned-in text looked for")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(*run(arguments.only, arguments.folder, arguments.text_files))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "set"
        generate(
            place, patients=arguments.files // 5, files=arguments.files, seed=SEED, listed=sorted(reference_actions())
        )
        print(f"{'':34} {'files':>6} {'files/s':>8} {'peak MiB':>9}")
        for name in CONTESTANTS:
            command = [sys.executable, "-W", "ignore", __file__, "--only", name, "--folder", str(place)]
            command += ["--text-files", str(arguments.text_files)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
            count, seconds, peak = int(told[-3]), float(told[-2]), float(told[-1])
            print(f"{name:34} {count:6d} {count / seconds:8.1f} {peak:9.0f}")


def run(name: str, place: Path, most: int) -> tuple[int, float, float]:
    """Files, seconds and peak memory in MiB of one contestant; loading it is not timed."""
    warnings.simplefilter("ignore")
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.read_bytes()[128:132] == b"DICM"]
    files = [path for path in files if path.name != "DICOMDIR"]
    contestant = CONTESTANTS[name]
    chosen = files[:most] if contestant is with_text else files
    with tempfile.TemporaryDirectory() as folder:
        contestant(chosen[:1], Path(folder))
        start = perf_counter()
        contestant(chosen, Path(folder))
        seconds = perf_counter() - start
    return len(chosen), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
