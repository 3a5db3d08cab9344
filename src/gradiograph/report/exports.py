"""The report's numbers as files for other programs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from gradiograph.log import Log
from gradiograph.log.atomic import write_file
from gradiograph.report.frontier import frontier, to_csv
from gradiograph.report.results import Results
from gradiograph.report.utility import FOREIGN, Model, models
from gradiograph.utility import measures_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from gradiograph.utility import Measure


def write_tables(directory: Path | str) -> tuple[Path, ...]:
    """Write `utility.csv` and `frontier.csv` into the folder of a run that trained, readable by its owner only.

    Returns:
        Where they lie; nothing where nothing was trained.

    Raises:
        LogProblem: the folder holds no run, or nothing was scored yet.
    """
    log = Log.open(directory)
    results = Results.read(log)
    found = models(results)
    if not found:
        return ()
    sites, score = int(results.header["utility"]["sites"]), results.header["utility"]["score"]
    tables = {
        "utility.csv": _utility(found, sites, measures_beside(score).values()),
        "frontier.csv": to_csv(frontier(results, found)),
    }
    for name, content in tables.items():
        write_file(log.directory / name, content)
    return tuple(log.directory / name for name in tables)


def _utility(found: Sequence[Model], sites: int, measures: Iterable[Measure]) -> bytes:
    """Every measure of every arm, of all test films and of each site's; what is undefined is empty and says why."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("task", "protocol", "defence", "arm", "site", "measure", "value", "low", "high", "undefined"))
    for model in found:
        for measure in measures:
            for site in (None, *range(sites), *((FOREIGN,) if model.foreign else ())):
                told = model.value(measure, site)
                numbers = ["" if value is None else value for value in (told.value, told.low, told.high)]
                place = (*model.setting, model.defence, model.arm, "all" if site is None else site, measure.name)
                writer.writerow([*place, *numbers, told.undefined])
    return buffer.getvalue().encode()
