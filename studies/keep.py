"""Keep what a study may keep: rows, summary and charts, never a film. python studies/keep.py RUN FOLDER."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from gradiograph.log import Log
from gradiograph.report import Results, render_markdown, write_tables
from gradiograph.report.plots import leakage
from gradiograph.report.trade_off import trade_offs
from gradiograph.report.utility import models


def main(run: Path, folder: Path) -> None:
    """Copy the run's tables, and write its summary and the charts of each task and protocol."""
    log = Log.open(run)
    folder.mkdir(parents=True, exist_ok=True)
    for table in (log.export_csv(), *write_tables(run)):
        shutil.copyfile(table, folder / table.name)
    (folder / "summary.md").write_text(render_markdown(log), encoding="utf-8")
    results = Results.read(log)
    charts = {f"leakage-{n}": leakage(results, setting, n) for n, setting in enumerate(results.settings)}
    for number, found in enumerate(trade_offs(results, models(results))):
        charts |= {f"frontier-{number}": found.chart, f"budgets-{number}": found.budget_chart}
    for name, chart in charts.items():
        if chart is not None:
            (folder / f"{name}.svg").write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
