"""A log as a short Markdown summary: the verdict and one table."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from gradiograph.report.ceiling import CEILING_MEANING, CeilingBlock, ceilings
from gradiograph.report.failures import not_measured
from gradiograph.report.inputs import inputs
from gradiograph.report.membership import MEMBERSHIP_MEANING, MEMBERSHIP_METRICS, MembershipLine, memberships
from gradiograph.report.policy import policy_of, rule
from gradiograph.report.privacy import TITLES, budgets
from gradiograph.report.results import Results, named
from gradiograph.report.tables import Entry, Line, blocks, columns, references
from gradiograph.report.utility import Model, models, utility_tables
from gradiograph.report.verdict import judge
from gradiograph.report.wording import measure
from gradiograph.report.yardsticks import YARDSTICK_TITLES, YARDSTICKS_MEANING, nearer, yardsticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.log import Log
    from gradiograph.report.results import Setting


def render_markdown(log: Log) -> str:
    """The verdict, worst first, and a table of defences and attacks.

    Args:
        log: The run.

    Returns:
        Markdown; texts of the log cannot bring in markup of their own.

    Raises:
        LogProblem: nothing was scored yet.
    """
    results = Results.read(log)
    judgement = judge(results)
    header = results.header
    lines = [f"# Privacy audit: {plain(header['name'])}", ""]
    if not results.complete:
        lines += [f"**Incomplete: {results.done} of {header['cells_total']} cells.**", ""]
    lines += [f"**{judgement.headline}** {judgement.meaning}", ""]
    for verdict in judgement.verdicts:
        name = named(verdict.defence, start=True)
        where = f" ({plain(' / '.join(verdict.finding.setting))})" if len(results.settings) > 1 else ""
        text = " ".join(filter(None, (verdict.sentence, f"Worst patient: {verdict.worst}", *verdict.notes)))
        lines.append(f"- **{plain(name)}{where}: {verdict.status.value}.** {plain(text)}")
    found = models(results)
    lines += _policy(results, found)
    metrics, _ = columns(results)
    for setting in results.settings:
        lines += ["", f"## {plain(' / '.join(setting))}", "", *_table_head(metrics)]
        for block in blocks(results, setting, metrics):
            name = named(block.defence)
            lines += [_table_row(name, line, block.guarantee) for line in block.lines]
        lines += [_table_row("", line, "") for line in references(results, setting, metrics)]
        lines += _ceiling(ceilings(results, setting, metrics), metrics)
        lines += _nearer(results, setting)
        lines += _memberships(memberships(results, setting))
    lines += _yardsticks(results)
    lines += _budgets(results)
    lines += _utility(results, found)
    missing = not_measured(results)
    lines += ["", "## Not measured", ""] if missing else []
    lines += [f"- **{plain(entry.what)}**: {plain(entry.why)}" for entry in missing]
    lines += _inputs(results)
    lines += ["", "Means with 95 % intervals; then the worst film, then the control (other patients' updates)."]
    return "\n".join(lines) + "\n"


def _policy(results: Results, found: Sequence[Model]) -> list[str]:
    """What passes the audit's own policy; no lines where there is none."""
    policy = policy_of(results)
    if policy is None:
        return []
    rulings = rule(results, policy, found)
    told = [(r.defence, "passes" if r.passed else f"fails: {'; '.join(r.failures)}") for r in rulings]
    return ["", "## Policy", "", *(f"- **{plain(defence)}** {plain(text)}." for defence, text in told)]


def _utility(results: Results, found: Sequence[Model]) -> list[str]:
    """What the trained models are worth; no lines where none was trained."""
    lines: list[str] = []
    for table in utility_tables(results, found) if found else []:
        foreign = [f"{table.score} at the foreign site"] if results.header["utility"].get("foreign") else []
        sites = [f"{table.score} by site", *foreign]
        titles = ["Trained with", *table.titles, "Loss", *sites, "Sent in a round", "Time of a round"]
        lines += ["", f"## Utility: {plain(' / '.join(table.setting))}", "", *_head(titles)]
        for line in table.lines:
            name = " ".join(filter(None, (line.name, line.failed)))
            elsewhere = [line.foreign] if foreign else []
            cells = [name, *line.values, line.loss, line.sites, *elsewhere, line.sent, line.seconds]
            lines.append(f"| {' | '.join(map(plain, cells))} |")
    return lines


def _budgets(results: Results) -> list[str]:
    """What protections with a formal guarantee spend and bound; no lines where there are none."""
    lines: list[str] = []
    for table in budgets(results):
        lines += ["", f"## Privacy budget: {plain(table.protocol)}", "", *_head(list(TITLES))]
        lines += [f"| {' | '.join(map(plain, line.cells))} |" for line in table.lines] + [""]
        lines += [f"- **{plain(line.cells[0])}.** {plain(' '.join(line.meaning))}" for line in table.lines]
    return lines


def _memberships(lines: Sequence[MembershipLine]) -> list[str]:
    """Who took part; no lines where it was not asked."""
    if not lines:
        return []
    titles = ["Protection", *(measure(metric).title for metric in MEMBERSHIP_METRICS), "Films that took no part"]
    text = ["", "### Who took part", "", MEMBERSHIP_MEANING, "", *_head(titles)]
    for line in lines:
        name = named(line.defence)
        text.append(f"| {' | '.join([plain(name), *map(_entry, line.entries), line.strangers])} |")
    return text


def _yardsticks(results: Results) -> list[str]:
    """What the scores say of two real films; no lines where that was not measured."""
    lines = [f"| {measure(one.metric).title} | {' | '.join(map(plain, one.cells))} |" for one in yardsticks(results)]
    return ["", "## How near is near", "", YARDSTICKS_MEANING, "", *_head(YARDSTICK_TITLES), *lines] if lines else []


def _nearer(results: Results, setting: Setting) -> list[str]:
    """The films nearer than two patients; no lines where there is no threshold."""
    lines = []
    for line in nearer(results, setting):
        name = named(line.defence)
        lines.append(f"| {' | '.join([plain(name), plain(line.attack), *map(_entry, line.entries)])} |")
    titles = ["Protection", "Strongest attack", *(measure(one.metric).title for one in yardsticks(results))]
    return ["", "### Nearer than two patients", "", *_head(titles), *lines] if lines else []


def _inputs(results: Results) -> list[str]:
    """What the scan of the inputs found; no lines where nothing was scanned."""
    lines = []
    for entry in inputs(results.header):
        lines += ["", f"## {plain(entry.title)}", "", f"**{plain(entry.sentence)}**", ""]
        if entry.findings:
            lines += _head(["Letter", "What it stands for", "Found in", "Files"])
            lines += [f"| {' | '.join(plain(str(cell)) for cell in row)} |" for row in entry.findings] + [""]
        lines += [f"- {plain(line)}" for line in entry.evidence]
        lines += [f"- Not checked: {plain(line)}" for line in entry.not_checked]
        lines += [f"- {plain(line)}" for line in entry.notices]
    return lines


def _ceiling(blocks: Sequence[CeilingBlock], metrics: Sequence[str]) -> list[str]:
    """The oracle control; no lines where there is none."""
    if not blocks:
        return []
    titles = ["Protection", "Search", *(measure(metric).title for metric in metrics), "Objective: start", "end"]
    lines = ["", "### Ceiling (oracle)", "", CEILING_MEANING, "", *_head(titles)]
    for block in blocks:
        name = named(block.defence)
        for line in block.lines:
            cells = [plain(name), plain(line.name), *map(_entry, line.entries), line.start, line.end]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for block in blocks:
        name = named(block.defence, start=True)
        lines += [f"- **{plain(name)}.** {plain(sentence)}" for sentence in block.sentences]
    return lines


def _table_head(metrics: Sequence[str]) -> list[str]:
    titles = ["Protection", "Attack", *(measure(metric).title for metric in metrics), "Formal guarantee"]
    return _head(titles)


def _head(titles: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]


def _table_row(defence: str, line: Line, guarantee: str) -> str:
    cells = [plain(defence), plain(line.name), *map(_entry, line.entries), plain(guarantee)]
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return ""
    parts = [f"{entry.mean} ({entry.interval})"]
    parts += [f"worst {entry.worst}"] if entry.worst else []
    parts += [f"control {entry.control}"] if entry.control else []
    return "; ".join(parts)


def plain(text: str) -> str:
    """The text with all that Markdown or HTML could read as markup escaped, in one line."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
