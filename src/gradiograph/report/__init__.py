"""A log to something readable: a self-contained HTML page, PDF, JSON, Markdown, a local viewer. Reads without torch."""

from gradiograph.log import Log
from gradiograph.report.card import render_card
from gradiograph.report.exports import write_tables
from gradiograph.report.html import render, write_html
from gradiograph.report.markdown import render_markdown
from gradiograph.report.pdf import write_pdf
from gradiograph.report.policy import Policy, Ruling, policy_of, rule
from gradiograph.report.recommend import Recommendation, recommend
from gradiograph.report.results import Results
from gradiograph.report.tracking import track
from gradiograph.report.twin import schema, to_json
from gradiograph.report.verdict import judge
from gradiograph.report.viewer import Viewer

open_log = Log.open

__all__ = [
    "Policy",
    "Recommendation",
    "Results",
    "Ruling",
    "Viewer",
    "judge",
    "open_log",
    "policy_of",
    "recommend",
    "render",
    "render_card",
    "render_markdown",
    "rule",
    "schema",
    "to_json",
    "track",
    "write_html",
    "write_pdf",
    "write_tables",
]
