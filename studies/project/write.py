"""Write the report and the slides of the project from the kept results: python studies/project/write.py [OUT].

OUT (default studies/results/report) gets README.md, report.html and .pdf, slides.html and .pdf. With --films RUNS, the
folder of the ladder's runs, both also show a film on every rung: for films that may be shown, outside the repository.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import jinja2
import markdown
from markupsafe import Markup
from PIL import Image

from claims import claims
from films import strips
from gradiograph.log.atomic import write_file

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
LADDER_CHART = "realism/ladder.svg"
PHANTOM = HERE.parents[1] / "docs" / "demo.png"
"""Pictures of the phantom, which has no patients: those that the repository may show."""
WIDTH = 800
"""Of it, in pixels."""
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
    """The report as one page that loads nothing; the films, where there are any, under the ladder's chart."""

    def inline(found: re.Match[str]) -> str:
        films = pictures if found[2] == LADDER_CHART else ""
        return f'<figure role="img" aria-label="{found[1]}">{chart(found[2])}</figure>{films}'

    title = text.partition("\n")[0].removeprefix("# ")
    body = (
        IMAGE.sub(inline, to_html(text))
        .replace("<table>", '<div class="wide"><table>')
        .replace("</table>", "</table></div>")
        .replace("../../../docs/demo.png", phantom())
    )
    return render("page.html.j2", {"title": title, "css": style("report.css"), "body": Markup(body)})  # noqa: S704


def phantom() -> str:
    """The picture of the phantom in grey, small, as an address that holds it."""
    with Image.open(PHANTOM) as picture:
        small = picture.convert("L").resize((WIDTH, WIDTH * picture.height // picture.width))
    buffer = io.BytesIO()
    small.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def style(name: str) -> Markup:
    """A style sheet of this folder."""
    return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - our own text


def pdf(html: str) -> bytes:
    """A page as printed; it loads nothing."""
    from weasyprint import HTML  # here, for it needs libraries of the system that a reader of the page does not
    from weasyprint.urls import URLFetcher

    printed: bytes = HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=("data",))).write_pdf()
    return printed


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=RESULTS / "report")
    parser.add_argument("--films", type=Path, help="the folder of the ladder's runs; their films are shown")
    options = parser.parse_args()
    if options.films and HERE.parent.parent in options.out.resolve().parents:
        sys.exit("--films shows patients' films: name a folder outside the repository.")
    found = claims()
    pictures = strips(options.films) if options.films else Markup("")
    write = write_file if options.films else Path.write_bytes  # what shows a patient is its owner's only
    options.out.mkdir(parents=True, exist_ok=True)
    report = render("report.md.j2", found)
    charts = {name: Markup(chart(name)) for name in (LADDER_CHART, "dp_frontier/budgets-0.svg")}  # noqa: S704
    slides = render(
        "slides.html.j2",
        {**found, "charts": charts, "pictures": pictures, "phantom": phantom(), "css": style("slides.css")},
    )
    if not options.films:
        (options.out / "README.md").write_text(report, encoding="utf-8")
    for name, html in {"report": page(report, pictures), "slides": slides}.items():
        write(options.out / f"{name}.html", html.encode())
        write(options.out / f"{name}.pdf", pdf(html))


if __name__ == "__main__":
    main()
