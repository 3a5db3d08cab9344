"""The README's picture, from a run of the built-in audit: python docs/picture.py gradiograph-demo docs/demo.png."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from gradiograph.log import Log

mpl.use("Agg")
from matplotlib import pyplot as plt

FILMS = 6


def rows(log: Log) -> dict[str, list[np.ndarray]]:
    """Pictures by row title: the originals, the reconstruction under each defence, the control."""
    batches = range(FILMS)
    ours = {(c.defence, c.control, c.batch): c for c in log.cells() if c.attack.startswith("latent_matching")}
    found = {"original": [log.victims(batch).images[0, 0] for batch in batches]}
    for entry in log.header["defences"]:
        title = {"none": "no protection"}.get(entry["label"], entry["label"].replace(" + ", "\n+ "))
        found[title] = [log.images(ours[entry["label"], "none", batch].id)[0, 0] for batch in batches]
    mismatched = [log.images(ours["none", "mismatched_update", batch].id)[0, 0] for batch in batches]
    return {**found, "control: update of\nanother patient": mismatched}


def main(directory: Path, out: Path) -> None:
    """Draw the rows."""
    pictures = rows(Log.open(directory))
    figure, axes = plt.subplots(len(pictures), FILMS, figsize=(FILMS * 1.25 + 1.9, len(pictures) * 1.27))
    for line, (title, films) in zip(axes, pictures.items(), strict=True):
        for axis, film in zip(line, films, strict=True):
            axis.imshow(film, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        line[0].text(-0.08, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left=0.23, right=0.995, top=0.995, bottom=0.005, wspace=0.04, hspace=0.04)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
