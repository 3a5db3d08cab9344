"""One curve per protection over its strength, from a study's rows: python studies/curves.py FOLDER.

Draws FOLDER/curves.svg from FOLDER/rows.csv and those of its subfolders: the share of films identified by pixels and by
LPIPS, weakest protection on the left, beside the mismatched update.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

if TYPE_CHECKING:
    from collections.abc import Iterator

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "gradiograph"
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first

# The family of a defence's label, what its strength is, and whether more of it protects more.
FAMILIES = {
    r"uniform_quantisation\(bits=(?P<x>[\d.]+)\)": ("Uniform quantisation", "bits", False),
    r"qsgd\(levels=(?P<x>[\d.]+), norm=max\)": ("QSGD by maximum", "levels", False),
    r"qsgd\(levels=(?P<x>[\d.]+), bucket=512\)": ("QSGD, bucket 512", "levels", False),
    r"gaussian_noise\(snr=(?P<x>[\d.]+)\)": ("Gaussian noise", "signal over noise, in power", False),
    r"laplace_noise\(snr=(?P<x>[\d.]+)\)": ("Laplace noise", "signal over noise, in power", False),
    r"top_k\(sparsity=(?P<x>[\d.]+)\)": ("Top-k", "values dropped, of 1", True),
}
LINES = {
    ("none", "identification_pixels_top1"): ("by pixels", "#1f5fa8", "-"),
    ("none", "identification_top1"): ("by LPIPS", "#c2571a", "-"),
    ("mismatched_update", "identification_pixels_top1"): ("mismatched, by pixels", "#1f5fa8", ":"),
}


def main(folder: Path) -> None:
    """Draw the chart of a study that `keep.py` kept."""
    values: dict[tuple[str, float, str, str], list[float]] = defaultdict(list)
    for row in _rows(folder):
        for pattern in FAMILIES:
            if found := re.fullmatch(pattern, row["defence"]):
                values[pattern, float(found["x"]), row["control"], row["metric"]].append(float(row["value"]))
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharey=True, layout="constrained")
    for axis, (pattern, (name, unit, rising)) in zip(axes.flat, FAMILIES.items(), strict=True):
        strengths = sorted({x for family, x, _, _ in values if family == pattern}, reverse=not rising)
        for (control, metric), (label, colour, style) in LINES.items():
            shares = [_share(values[pattern, x, control, metric]) for x in strengths]
            axis.plot(range(len(strengths)), shares, style, marker="o", color=colour, label=label, clip_on=False)
        axis.set(title=name, xlabel=f"{unit}; stronger to the right", ylim=(0, 1))
        axis.set_xticks(range(len(strengths)), [f"{x:g}" for x in strengths])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("films identified")
    axes[1, 0].set_ylabel("films identified")
    axes[0, 0].legend(frameon=False)
    figure.savefig(folder / "curves.svg", metadata={"Date": None})


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    for table in sorted(folder.rglob("rows.csv")):
        with table.open(newline="") as sheet:
            yield from csv.DictReader(sheet)


def _share(hits: list[float]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
