"""One film on every rung of the ladder, as pictures in a page: what was attacked, and what came back."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).parents[1]))
from gradiograph.log import Log
from gradiograph.log.pictures import ORIGINAL, mark_of, png
from gradiograph.report import Results
from realism import RUNGS
from realism_chart import OURS, PUBLISHED, strongest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

ROWS = ("film", "published", "ours", "ours, another client's update")


def strips(runs: Path) -> Markup:
    """A column for each rung whose run is there: the film that ours told best, then what came back of it."""
    rungs = [rung for rung in RUNGS if (runs / rung.name / "rows.csv").exists()]
    columns = [list(_pictures(runs / rung.name)) for rung in rungs]
    if not columns:
        return Markup("")
    head = Markup("").join(Markup("<th scope=col>{}</th>").format(rung.title) for rung in rungs)
    rows = Markup("").join(
        Markup("<tr><th scope=row>{}</th>{}</tr>").format(
            ROWS[place], Markup("").join(_cell(column[place], ROWS[place]) for column in columns)
        )
        for place in range(len(ROWS))
    )
    return Markup('<div class="wide"><table class="films"><tr><th></th>{}</tr>{}</table></div>').format(head, rows)


def _pictures(run: Path) -> Iterator[tuple[NDArray[np.float32], str]]:
    """The film and its reconstructions in the order of `ROWS`, each with the mark that it bears."""
    log = Log.open(run)
    results = Results.read(log)
    attacks = sorted({key.attack for key in results.tables if key.attack})
    published, ours = (strongest(results.tables, family, attacks) for family in (PUBLISHED, OURS))
    # Of the first batch and seed, the film whose reconstruction by ours is nearest: the worst patient.
    seed = min(cell.seed for cell in results.cells)
    nearest = {
        row.record: row.value
        for row in results.rows
        if (row.attack, row.control, row.batch, row.seed, row.metric) == (ours, "none", 0, seed, "lpips")
    }
    victims = log.victims(0)
    place = victims.records.index(min(nearest, key=nearest.__getitem__))
    yield victims.images[place], ORIGINAL
    for attack, control in ((published, "none"), (ours, "none"), (ours, "mismatched_update")):
        (cell,) = (c for c in results.cells if (c.attack, c.control, c.batch, c.seed) == (attack, control, 0, seed))
        yield log.images(cell.id)[place], mark_of(control)


def _cell(picture: tuple[NDArray[np.float32], str], title: str) -> Markup:
    image, mark = picture
    source = base64.b64encode(png(image, mark)).decode()
    return Markup('<td><img alt="{}" src="data:image/png;base64,{}"></td>').format(title, source)
