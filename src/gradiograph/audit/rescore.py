"""A new metric on stored reconstructions: no new attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import load_components
from gradiograph.audit.grid import MEMBERS, STRANGERS
from gradiograph.audit.plan import plan
from gradiograph.audit.scoring import build_metrics, pseudonym_key, scoring_context
from gradiograph.core.errors import BadSetting, LogProblem
from gradiograph.core.records import Row
from gradiograph.core.scoring import ScoringContext
from gradiograph.log import Log, require_kept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradiograph.audit.spec import Spec
    from gradiograph.log import Cell, Victims

KEY_FIELDS = ("task", "protocol", "defence", "attack", "control", "batch", "seed", "round")


def rescore(directory: Path, metric: Mapping[str, Any], spec: Spec | None = None, folder: Path | None = None) -> Log:
    """Add a metric to every cell of a run.

    Args:
        directory: The run's folder.
        metric: The metric's configuration, `use` and settings.
        spec: The audit, needed by metrics that search the gallery; None for those that compare two images.
        folder: What relative paths in it are relative to.

    Raises:
        BadInput: the run, the metric or the audit does not fit.
    """
    load_components()
    log = Log.open(directory)
    require_kept(log)
    (made,) = build_metrics([metric])
    context = _context(log, spec, folder)
    classes = log.header["data"]["classes"]
    fresh: dict[str, dict[str, Any]] = {}
    for cell in (cell for cell in log.cells() if not cell.failed and cell.control not in (MEMBERS, STRANGERS)):
        victims = log.victims(cell.batch)
        scores = made(_guess(log, cell), torch.from_numpy(victims.images), _labels(victims, classes), context)
        key = {name: getattr(cell, name) for name in KEY_FIELDS}
        log.add_rows(
            cell.id,
            [
                Row(**key, record=record, metric=s.name, value=float(value), larger_leaks_more=s.larger_leaks_more)
                for s in scores
                for record, value in zip(victims.records, s.values, strict=True)
            ],
        )
        fresh |= {s.name: {"name": s.name, "unit": s.unit, "larger_leaks_more": s.larger_leaks_more} for s in scores}
    kept = [entry for entry in log.header["metrics"] if entry["name"] not in fresh]
    log.update(metrics=[*kept, *fresh.values()])
    log.export_csv()
    return log


def _guess(log: Log, cell: Cell) -> torch.Tensor:
    images = log.images(cell.id)
    if images is None:
        msg = f"Cell {cell.id} has no images to score. Run the audit again."
        raise LogProblem(msg)
    return torch.from_numpy(images)


def _labels(victims: Victims, classes: list[str]) -> torch.Tensor:
    return torch.tensor([classes.index(label) for label in victims.labels])


def _context(log: Log, spec: Spec | None, folder: Path | None) -> ScoringContext:
    if spec is not None and folder is not None:
        made = plan(spec, folder)
        for batch, victims in enumerate(made.films.victims):
            if not torch.equal(torch.from_numpy(victims.read()), torch.from_numpy(log.victims(batch).images)):
                msg = f"The audit file's victims of batch {batch} are not the run's. Give the file of that run."
                raise BadSetting(msg)
        return scoring_context(made.films, made.spec.networks, pseudonym_key(log.directory))
    mean = [cell for cell in log.cells() if cell.control == "mean_film"]
    shape = log.victims(0).images.shape[1:]
    return ScoringContext(
        gallery=torch.zeros(0, *shape),
        gallery_labels=torch.zeros(0, dtype=torch.int64),
        gallery_patients=(),
        mean_film=_guess(log, mean[0])[0] if mean else torch.zeros(shape),
        network_folders={},
    )
