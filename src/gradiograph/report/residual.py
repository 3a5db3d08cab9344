"""The residual risks: what may still go wrong under each protection, and on what evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradiograph.report.findings import findings
from gradiograph.report.membership import memberships
from gradiograph.report.privacy import IDENTIFICATION, account, excess_bound
from gradiograph.report.verdict import Status
from gradiograph.report.wording import span

if TYPE_CHECKING:
    from gradiograph.report.results import Results, Setting
    from gradiograph.report.verdict import Judgement

RISKS = (
    "A film is read back from one client's update",
    "The patient who is exposed most",
    "A better attack than those that ran",
    "A patient's taking part is recognised (membership)",
    "The finished model gives films away",
)
"""The columns of the matrix."""

_UNTESTED = "not tested"
_MODEL = "not tested: the updates were attacked, not the finished model"


class RiskRow(NamedTuple):
    """One protection's cells under `RISKS`, and how bad the first is."""

    setting: Setting
    defence: str
    status: Status
    cells: tuple[str, ...]


def residual_risks(results: Results, judgement: Judgement) -> tuple[RiskRow, ...]:
    """A row for each verdict, worst first. Every cell is evidence, and nothing is rated by taste."""
    rows = []
    for verdict in judgement.verdicts:
        setting, defence = verdict.finding.setting, verdict.defence
        rows.append(
            RiskRow(
                setting=setting,
                defence=defence,
                status=verdict.status,
                cells=(
                    _reading(results, setting, defence, verdict.status),
                    verdict.worst or _UNTESTED,
                    _bound(results, setting, defence),
                    _membership(results, setting, defence),
                    _MODEL,
                ),
            )
        )
    return tuple(rows)


def _reading(results: Results, setting: Setting, defence: str, status: Status) -> str:
    """The largest excess over the control that any attack's interval leaves open."""
    judged = [found for found in findings(results, setting, defence) if found.difference is not None]
    metrics = [found.attacked.metric for found in judged]
    intervals = [found.difference.interval for found in judged if found.difference is not None]
    highs = [each.high for each, metric in zip(intervals, metrics, strict=True) if metric == IDENTIFICATION]
    if highs:
        return f"{status.value}; up to {100 * max([0.0, *highs]):.0f} % of films beyond the control are not excluded"
    if intervals:
        return f"{status.value}; difference from the control {span(metrics[0], intervals[0], sign=True)}"
    return status.value


def _membership(results: Results, setting: Setting, defence: str) -> str:
    """How many were told as members, beside the control; and what a formal guarantee leaves possible."""
    told = [line.entries[0] for line in memberships(results, setting) if line.defence == defence]
    asked = [f"told of {entry.mean} ({entry.interval}), control {entry.control}" for entry in told if entry]
    spent = account(results, setting, defence)
    bound = [f"advantage at most {100 * spent['membership_advantage']:.3g} %"] if spent else []
    return "; ".join([*asked, *bound]) or _UNTESTED


def _bound(results: Results, setting: Setting, defence: str) -> str:
    bound = excess_bound(results, setting, defence)
    if bound is None:
        return "no formal guarantee: open"
    return f"identifies at most {100 * bound:.3g} % of films beyond a guess, whatever the attack"
