"""A new metric on stored reconstructions: no new attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import load_components
from gradiograph.audit.grid import MEMBERS, STRANGERS
from gradiograph.audit.judges import Attacked, Judges
from gradiograph.audit.plan import plan
from gradiograph.audit.scoring import pseudonym_key, scoring_context, to_rows
from gradiograph.audit.yardsticks import yardsticks
from gradiograph.core.errors import BadSetting, LogProblem
from gradiograph.core.scoring import ScoringContext
from gradiograph.log import Log, require_kept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradiograph.audit.films import AuditFilms
    from gradiograph.audit.spec import Spec
    from gradiograph.log import Cell

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
    context, films = _context(log, spec, folder)
    judged = Judges.of([metric], context)
    fresh: dict[str, dict[str, Any]] = {}
    for cell in (cell for cell in log.cells() if not cell.failed and cell.control not in (MEMBERS, STRANGERS)):
        scores = judged.scores(_guess(log, cell), _attacked(log, films, cell.batch))
        key = {name: getattr(cell, name) for name in KEY_FIELDS}
        log.add_rows(cell.id, [row for score, names in scores for row in to_rows([score], names, key)])
        fresh |= {s.name: {"name": s.name, "unit": s.unit, "larger_leaks_more": s.larger_leaks_more} for s, _ in scores}
    kept = [entry for entry in log.header["metrics"] if entry["name"] not in fresh]
    measured = {} if films is None else {entry["metric"]: entry for entry in yardsticks(films, judged)}
    others = [entry for entry in log.header.get("yardsticks", []) if entry["metric"] not in measured]
    log.update(metrics=[*kept, *fresh.values()], yardsticks=[*others, *measured.values()])
    log.export_csv()
    return log


def _guess(log: Log, cell: Cell) -> torch.Tensor:
    images = log.images(cell.id)
    if images is None:
        msg = f"Cell {cell.id} has no images to score. Run the audit again."
        raise LogProblem(msg)
    return torch.from_numpy(images)


def _attacked(log: Log, films: AuditFilms | None, batch: int) -> Attacked:
    """The films of a batch: the log's own; another film of the patient is in the audit's data alone."""
    victims, classes = log.victims(batch), log.header["data"]["classes"]
    if films is not None:
        return Attacked.of(films, batch, victims.records)
    labels = torch.tensor([classes.index(label) for label in victims.labels])
    return Attacked(images=torch.from_numpy(victims.images), labels=labels, names=victims.records)


def _context(log: Log, spec: Spec | None, folder: Path | None) -> tuple[ScoringContext, AuditFilms | None]:
    if spec is not None and folder is not None:
        made = plan(spec, folder)
        for batch, victims in enumerate(made.films.victims):
            if not torch.equal(torch.from_numpy(victims.read()), torch.from_numpy(log.victims(batch).images)):
                msg = f"The audit file's victims of batch {batch} are not the run's. Give the file of that run."
                raise BadSetting(msg)
        return scoring_context(made.films, made.spec.networks, pseudonym_key(log.directory)), made.films
    mean = [cell for cell in log.cells() if cell.control == "mean_film"]
    shape = log.victims(0).images.shape[1:]
    bare = ScoringContext(
        gallery=torch.zeros(0, *shape),
        gallery_labels=torch.zeros(0, dtype=torch.int64),
        gallery_patients=(),
        mean_film=_guess(log, mean[0])[0] if mean else torch.zeros(shape),
        network_folders={},
    )
    return bare, None
