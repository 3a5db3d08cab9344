"""The films that were attacked, as the log keeps them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradiograph.log.atomic import write_new
from gradiograph.log.pictures import ORIGINAL, fill_images, unpack

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Victims:
    """One batch of originals.

    Attributes:
        records: Keyed pseudonyms of the films, in the batch's order.
        labels: Their class names.
        images: (B, C, H, W) float32 in [0, 1].
    """

    records: tuple[str, ...]
    labels: tuple[str, ...]
    images: NDArray[np.float32] = field(repr=False)


def fill_victims(folder: Path, victims: Victims) -> None:
    """Write a batch into a folder of `atomic.new_folder`."""
    entry = {"records": list(victims.records), "labels": list(victims.labels)}
    fill_images(folder, victims.images, ORIGINAL)
    write_new(folder / "victims.json", (json.dumps(entry, indent=1, ensure_ascii=False) + "\n").encode())


def read_victims(folder: Path) -> Victims:
    """The batch that `fill_victims` wrote."""
    entry = json.loads((folder / "victims.json").read_text(encoding="utf-8"))
    images = unpack(folder / "images.npz")
    return Victims(records=tuple(entry["records"]), labels=tuple(entry["labels"]), images=images)
