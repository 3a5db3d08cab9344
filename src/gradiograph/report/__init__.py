"""A log to something readable: one self-contained HTML page, a short Markdown summary. Reads without torch."""

from gradiograph.log import Log
from gradiograph.report.exports import write_tables
from gradiograph.report.html import render, write_html
from gradiograph.report.markdown import render_markdown
from gradiograph.report.policy import Policy, Ruling, policy_of, rule
from gradiograph.report.recommend import Recommendation, recommend
from gradiograph.report.results import Results
from gradiograph.report.tracking import track
from gradiograph.report.verdict import judge

open_log = Log.open

__all__ = [
    "Policy",
    "Recommendation",
    "Results",
    "Ruling",
    "judge",
    "open_log",
    "policy_of",
    "recommend",
    "render",
    "render_markdown",
    "rule",
    "track",
    "write_html",
    "write_tables",
]
