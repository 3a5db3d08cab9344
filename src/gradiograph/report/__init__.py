"""A log to something readable: one self-contained HTML page, a short Markdown summary. Reads without torch."""

from gradiograph.log import Log
from gradiograph.report.html import render, write_html
from gradiograph.report.markdown import render_markdown
from gradiograph.report.results import Results
from gradiograph.report.verdict import judge

open_log = Log.open

__all__ = ["Results", "judge", "open_log", "render", "render_markdown", "write_html"]
