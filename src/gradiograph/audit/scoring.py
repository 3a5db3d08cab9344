"""From reconstructions to rows: the material of the controls, and every metric on every record."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.core import registry
from gradiograph.core.records import Row, pseudonym
from gradiograph.core.scoring import ScoringContext
from gradiograph.log.atomic import write_file
from gradiograph.metrics import match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from gradiograph.audit.films import AuditFilms, Selection
    from gradiograph.core.scoring import Score
    from gradiograph.metrics import Metric

KEY_VARIABLE = "GRADIOGRAPH_PSEUDONYM_KEY"


def pseudonym_key(directory: Path) -> bytes:
    """The run's key for pseudonyms: from the environment, else from the run's folder, else drawn and kept there."""
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE].encode()
    path = directory / "pseudonym.key"
    if not path.exists():
        write_file(path, os.urandom(32))
    return path.read_bytes()


def record_names(selection: Selection, key: bytes) -> tuple[str, ...]:
    """The keyed pseudonyms of a selection's films."""
    return tuple(pseudonym(key, record.patient, record.index) for record in selection.records)


def scoring_context(films: AuditFilms, networks: Mapping[str, Path], key: bytes) -> ScoringContext:
    """The gallery, the mean film, and where the judging networks' weights are."""
    gallery = films.gallery
    return ScoringContext(
        gallery=torch.from_numpy(gallery.read()),
        gallery_labels=torch.from_numpy(gallery.labels),
        gallery_patients=tuple(pseudonym(key, record.patient) for record in gallery.records),
        mean_film=torch.from_numpy(films.mean_film()),
        network_folders=dict(networks),
    )


def build_metrics(configs: Sequence[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The metrics of an audit."""
    return tuple(registry.build("metric", config) for config in configs)


@dataclass(frozen=True)
class Found:
    """What a cell shows of each victim.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        masks: int64 (B, H, W); None where no mask was read.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.int64] | None = None

    def paired(self, truth: NDArray[np.float32]) -> Found:
        """In the order of the truth: an update does not tell the order of its batch."""
        order = match(torch.from_numpy(self.images), torch.from_numpy(truth)).numpy()
        return Found(self.images[order], None if self.masks is None else self.masks[order])


def to_rows(scores: Sequence[Score], names: Sequence[str], key: Mapping[str, Any]) -> tuple[Row, ...]:
    """One row per score and record.

    Args:
        scores: Each with one value per record.
        names: The pseudonym of each record.
        key: The cell's labels.
    """
    return tuple(
        Row(**key, record=name, metric=score.name, value=float(value), larger_leaks_more=score.larger_leaks_more)
        for score in scores
        for name, value in zip(names, score.values, strict=True)
    )
