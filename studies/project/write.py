"""Write the report and the slides of the project from the kept results: python studies/project/write.py [OUT].

OUT (default studies/results/report) gets README.md, report.html and .pdf, slides.html and .pdf. With --films RUNS, the
folder of the ladder's runs, both also show a film on every rung: for films that may be shown, outside the repository.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import markdown
from claims import CLAIMS, claims
from films import strips
from markupsafe import Markup
from weasyprint import HTML
from weasyprint.urls import URLFetcher

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
IMAGE = re.compile(r'<p><img alt="([^"]*)" src="\.\./([^"]*\.svg)" ?/?></p>')


def render(name: str, context: dict[str, Any]) -> str:
    """A template of this folder; a number that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=name.endswith(".html.j2"),
        keep_trailing_newline=True,
    )
    environment.filters["md"] = lambda text: Markup(to_html(text))  # noqa: S704 - our own text
    return environment.get_template(name).render(context)


def to_html(text: str) -> str:
    """Markdown as HTML."""
    return markdown.markdown(text, extensions=["tables", "toc"])


def chart(path: str) -> str:
    """A kept chart as SVG that stands in a page among others: its ids are its own."""
    text = (RESULTS / path).read_text(encoding="utf-8")
    svg = text[text.index("<svg") :]
    own = re.sub(r"\W", "-", path)
    svg = re.sub(r'id="([^"]*)"', rf'id="{own}-\1"', svg)
    return re.sub(r"(href=\"|url\()#", rf"\1#{own}-", svg)


def page(text: str, pictures: str) -> str:
    """The report as one page that loads nothing."""

    def inline(found: re.Match[str]) -> str:
        return f'<figure role="img" aria-label="{found[1]}">{chart(found[2])}</figure>'

    body = IMAGE.sub(inline, to_html(text))
    body = re.sub(r'href="\.\./\.\./\.\./docs/[^"]*"', 'href="https://github.com"', body) if False else body
    title = text.partition("\n")[0].removeprefix("# ")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{(HERE / 'report.css').read_text()}</style></head>\n<body>\n{body}\n{pictures}</body></html>\n"
    )
