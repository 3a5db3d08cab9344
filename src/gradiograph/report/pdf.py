"""The report as a PDF, by WeasyPrint: pages, links and selectable text, without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.errors import BadInput
from gradiograph.log import Log
from gradiograph.log.atomic import write_file
from gradiograph.report.html import render

if TYPE_CHECKING:
    from pathlib import Path


def write_pdf(directory: Path | str) -> Path:
    """Write `report.pdf` into a run's folder, readable by its owner only.

    Returns:
        Where it lies.

    Raises:
        LogProblem: the folder holds no run, or nothing was scored yet.
        BadInput: WeasyPrint is not installed, or its system libraries are not.
    """
    log = Log.open(directory)
    page = render(log)
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError):
        msg = (
            "A PDF needs WeasyPrint and its libraries: pip install 'gradiograph[pdf]' (on Debian also apt install "
            "libpango-1.0-0 libpangoft2-1.0-0). Or print report.html from a browser: it is laid out for paper."
        )
        raise BadInput(msg) from None

    path = log.directory / "report.pdf"
    # A report loads nothing: its pictures are in it.
    write_file(path, HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=("data",))).write_pdf())
    return path
