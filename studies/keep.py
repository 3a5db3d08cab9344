"""Keep what a study may keep: rows, summary and chart, never a film. python studies/keep.py RUN FOLDER."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from gradiograph.log import Log
from gradiograph.report import Results, render_markdown
from gradiograph.report.plots import leakage


def main(run: Path, folder: Path) -> None:
    """Copy the run's rows, and write its summary and one chart for each task and protocol."""
    log = Log.open(run)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log.export_csv(), folder / "rows.csv")
    (folder / "summary.md").write_text(render_markdown(log), encoding="utf-8")
    results = Results.read(log)
    for number, setting in enumerate(results.settings):
        chart = leakage(results, setting, number)
        if chart is not None:
            (folder / f"leakage-{number}.svg").write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
