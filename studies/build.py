"""Build the studies and the report anew: python studies/build.py [STUDY ...], or make studies.

The head of each study's audit file is its recipe: the lines that begin with '#   gradiograph' or '#   python', in
order. What is there already is kept: a prior or a network that was trained, and every cell of a run. Without runs this
takes hours, with them minutes. At the end the report and the slides are written from what was kept.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "studies"
LAST = "project/write.py"
ENDED = (0, 1)
"""Exit codes of a command that ran; 1 is a finding, such as a protection that fails its policy."""


def recipe(study: Path) -> list[list[str]]:
    """The commands at the head of an audit file, in words.

    >>> recipe(STUDIES / "frontier_search.toml")[1]
    ['gradiograph', 'run', 'studies/frontier_search.toml', '--workers', '2']
    """
    head = study.read_text(encoding="utf-8").partition("\nname")[0]
    lines = re.findall(r"^#   ((?:gradiograph|python) .*)$", head, flags=re.MULTILINE)
    return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]


def prepared(words: list[str], root: Path = ROOT) -> list[str] | None:
    """The command as it runs here: continued where it was begun, None where what it makes is there.

    Raises:
        LookupError: a run's audit file has no name.
    """
    program, *rest = words
    if program == "python":
        if Path(rest[0]).name == "train_network.py" and (root / rest[2]).exists():
            return None
        return [sys.executable, *rest]
    command = [str(Path(sys.executable).with_name(program)), *rest]
    if rest[:2] in (["prior", "train"], ["judge", "train"]) and (root / rest[rest.index("--out") + 1]).exists():
        return None
    if rest[0] == "run" and (_folder(rest, root) / "audit.json").exists():
        command.append("--resume")
    return command


def _folder(rest: list[str], root: Path) -> Path:
    if "--out" in rest:
        return root / rest[rest.index("--out") + 1]
    name = re.search(r'^name\s*=\s*"(.*)"', (root / rest[1]).read_text(encoding="utf-8"), flags=re.MULTILINE)
    if name is None:
        msg = f"{rest[1]} has no name"
        raise LookupError(msg)
    return root / "runs" / name[1]


def build(study: Path, root: Path = ROOT) -> None:
    """Follow a recipe.

    Raises:
        SystemExit: a command could not run.
    """
    for words in recipe(study):
        command = prepared(words, root)
        if command is None:
            continue
        print(shlex.join(words), flush=True)
        code = subprocess.run(command, cwd=root, check=False).returncode  # noqa: S603 - our own recipes
        if code not in ENDED:
            sys.exit(f"{study.stem}: {words[0]} {words[1]} ended with {code}; nothing after it was built.")


def main() -> None:
    """Build the studies that are named, or all, and the report."""
    named = [STUDIES / f"{name}.toml" for name in sys.argv[1:]]
    for study in named or sorted(STUDIES.rglob("*.toml")):
        build(study)
    subprocess.run([sys.executable, str(STUDIES / LAST)], cwd=ROOT, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
