"""A log as one self-contained HTML page: no request leaves it and no script runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradiograph.log import Log, retained_until
from gradiograph.log.atomic import write_file
from gradiograph.report.ceiling import CEILING_MEANING, ceilings
from gradiograph.report.comparisons import HALF_WIDTH, comparisons
from gradiograph.report.failures import not_measured
from gradiograph.report.gallery import Gallery
from gradiograph.report.inputs import inputs
from gradiograph.report.membership import MEMBERSHIP_MEANING, MEMBERSHIP_METRICS, memberships
from gradiograph.report.plots import leakage, objectives
from gradiograph.report.policy import policy_of, rule
from gradiograph.report.privacy import TITLES, budgets
from gradiograph.report.residual import RISKS, residual_risks
from gradiograph.report.results import UNDEFENDED, Results, Setting, named
from gradiograph.report.reviewers import QUESTIONS
from gradiograph.report.tables import blocks, columns, references, wires
from gradiograph.report.taxonomy import beyond, paradigms, threat_class
from gradiograph.report.trade_off import trade_offs
from gradiograph.report.utility import models
from gradiograph.report.verdict import Judgement, Status, judge
from gradiograph.report.wording import assumptions, basis, chance, films, gap, measure
from gradiograph.report.yardsticks import YARDSTICK_TITLES, YARDSTICKS_MEANING, nearer, yardsticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.report.gallery import Picture

_TEMPLATE = "page.html.j2"
COLUMNS = 5
"""Of measures, that a page of paper has room for."""


def render(log: Log) -> str:
    """The page of a run, also of one that is not finished.

    Args:
        log: The run.

    Returns:
        HTML; every text of the log is escaped in it.

    Raises:
        LogProblem: nothing was scored yet.
    """
    results = Results.read(log)
    main, rest = columns(results)
    gallery = Gallery(log, results)
    sections = [
        _section(results, gallery, setting, number, main, rest) for number, setting in enumerate(results.settings)
    ]
    judgement = judge(results)
    found, policy = models(results), policy_of(results)
    attacked = [row for row in results.rows if row.attack]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        header=results.header,
        complete=results.complete,
        done=results.done,
        judgement=judgement,
        portraits=_portraits(judgement, sections),
        status=Status,
        undefended=UNDEFENDED,
        named=named,
        measure=measure,
        gap=gap,
        main=main,
        rest=rest,
        columns=COLUMNS,
        sections=sections,
        inputs=inputs(results.header),
        tasks=results.entries("tasks"),
        defences=results.entries("defences"),
        assumptions=assumptions(results.header["threat"]),
        chance=chance(results.header["data"].get("gallery_per_class", {})),
        films=films(len({row.record for row in attacked})),
        attacked=basis(*(len({getattr(row, part) for row in attacked}) for part in ("record", "batch", "seed"))),
        seeds=sorted({row.seed for row in results.rows}),
        ceiling_meaning=CEILING_MEANING,
        yardsticks=yardsticks(results),
        yardsticks_meaning=YARDSTICKS_MEANING,
        yardstick_titles=YARDSTICK_TITLES,
        membership_meaning=MEMBERSHIP_MEANING,
        membership_metrics=MEMBERSHIP_METRICS,
        risks=residual_risks(results, judgement),
        risk_titles=RISKS,
        questions=QUESTIONS,
        threat_class=threat_class(results.header["threat"]),
        beyond=beyond(results.header["threat"]),
        paradigms=paradigms(results.entries("attacks")),
        half_width=HALF_WIDTH,
        kept_until=retained_until(results.header),
        budgets=budgets(results),
        budget_titles=TITLES,
        utility=trade_offs(results, found),
        policy=policy,
        rulings=rule(results, policy, found) if policy else (),
        not_measured=not_measured(results),
        spec=tomli_w.dumps(_without_none(results.header["spec"])),
    )


def write_html(directory: Path | str) -> Path:
    """Write `report.html` into a run's folder, readable by its owner only.

    Returns:
        Where it lies.

    Raises:
        LogProblem: the folder holds no run, or nothing was scored yet.
    """
    log = Log.open(directory)
    path = log.directory / "report.html"
    write_file(path, render(log).encode())
    return path


def _section(
    results: Results, gallery: Gallery, setting: Setting, number: int, main: tuple[str, ...], rest: tuple[str, ...]
) -> dict[str, Any]:
    """What the page shows of one task and protocol."""
    plots = (leakage(results, setting, number), objectives(results, setting, number))
    return {
        "setting": setting,
        "wires": wires(results, setting),
        "blocks": blocks(results, setting, main),
        "references": references(results, setting, main),
        "comparisons": comparisons(results, setting),
        "ceilings": ceilings(results, setting, main),
        "memberships": memberships(results, setting),
        "nearer": nearer(results, setting),
        "other_blocks": blocks(results, setting, rest) if rest else [],
        "other_references": references(results, setting, rest) if rest else [],
        "halls": gallery.halls(setting),
        # matplotlib escapes the labels in what it draws.
        "plots": [Markup(plot) if plot else None for plot in plots],  # noqa: S704
    }


def _portraits(judgement: Judgement, sections: list[dict[str, Any]]) -> dict[tuple[Setting, str], Sequence[Picture]]:
    """Original and reconstruction of each verdict's worst film."""
    halls = {(section["setting"], hall.defence): hall.strongest for section in sections for hall in section["halls"]}
    found = {}
    for verdict in judgement.verdicts:
        place = (verdict.finding.setting, verdict.defence)
        if place in halls and halls[place].attack == verdict.finding.attack:
            found[place] = halls[place].strips[0].pictures[:2]
    return found


def _without_none(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """TOML has no null: a setting without a value is left out."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value if inner is not None]
    return value
