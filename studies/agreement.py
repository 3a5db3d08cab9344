"""Which score of a picture agrees with identity and with meaning: python studies/agreement.py FOLDER.

Reads FOLDER/rows.csv of studies/meaning.toml and writes FOLDER/agreement.csv: Spearman's rank correlation of each score
of pictures with the rank of the film by a judge of radiographs, and with how far the judges' beliefs moved, over all
reconstructions of all protections, mismatched ones among them. The intervals resample films, with all their pictures.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from gradiograph.core.seeds import numpy_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCORES = (
    "feature_distance",
    "lpips",
    "lpips_squeeze",
    "ssim",
    "ms_ssim",
    "psnr",
    "mse",
    "variance_explained",
    "identification_rank",
    "identification_pixels_rank",
)
OUTCOMES = ("reidentification_rank", "finding_distance", "subtype_distance")
NEARER_IS_LARGER = ("ssim", "ms_ssim", "psnr", "variance_explained")
RESAMPLES = 1000


def main(folder: Path) -> None:
    """Write the correlations; positive where the score says near and the outcome says the same."""
    films, table = _read(folder / "rows.csv")
    owners = np.unique(films, return_inverse=True)[1]
    places = [np.flatnonzero(owners == owner) for owner in range(owners.max() + 1)]
    generator = numpy_stream(0, "agreement")
    draws = [
        np.concatenate([places[owner] for owner in generator.integers(0, len(places), len(places))])
        for _ in range(RESAMPLES)
    ]
    with (folder / "agreement.csv").open("w", newline="") as sheet:
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow(("score", "outcome", "correlation", "low", "high", "pictures", "films"))
        for score in SCORES:
            sign = -1 if score in NEARER_IS_LARGER else 1
            for outcome in OUTCOMES:
                pair = sign * table[score], table[outcome]
                low, high = np.quantile(
                    [_rank_correlation(*(values[draw] for values in pair)) for draw in draws], (0.025, 0.975)
                )
                numbers = (_rank_correlation(*pair), low, high)
                writer.writerow((score, outcome, *(f"{value:.3f}" for value in numbers), len(films), len(places)))


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(spearmanr(first, second).statistic)


def _read(path: Path) -> tuple[NDArray[np.str_], dict[str, NDArray[np.float64]]]:
    """The film of each picture, and its scores."""
    found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    with path.open(newline="") as sheet:
        for row in csv.DictReader(sheet):
            if row["control"] in ("none", "mismatched_update"):
                place = (row["record"], row["defence"], row["attack"], row["control"], row["batch"], row["seed"])
                found[place][row["metric"]] = float(row["value"])
    metrics = (*SCORES, *OUTCOMES)
    whole = {place: scores for place, scores in found.items() if all(metric in scores for metric in metrics)}
    films = np.array([place[0] for place in whole])
    return films, {metric: np.array([scores[metric] for scores in whole.values()]) for metric in metrics}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
