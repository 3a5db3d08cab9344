"""Membership in the report: how many films an update gives away as members, beside an update that they are not in."""

from __future__ import annotations

from dataclasses import dataclass

from gradiograph.report.results import MEMBERS, STRANGERS, Results, Setting
from gradiograph.report.statistics import Key
from gradiograph.report.tables import Entry, entry_of
from gradiograph.report.wording import MEMBERSHIP_MEANING

__all__ = ["MEMBERSHIP_MEANING", "MEMBERSHIP_METRICS", "MembershipLine", "memberships"]

MEMBERSHIP_METRICS = ("member_told", "member_rank")
"""The columns."""


@dataclass(frozen=True, kw_only=True)
class MembershipLine:
    """One protection: its entries under `MEMBERSHIP_METRICS`, and how many films the members were told from."""

    defence: str
    entries: tuple[Entry | None, ...]
    strangers: str


def memberships(results: Results, setting: Setting) -> list[MembershipLine]:
    """The membership of one setting, by defence, undefended first; empty where it was not asked for."""
    found = {key.defence for key in results.asked if (key.task, key.protocol, key.control) == (*setting, MEMBERS)}
    return [_line(results, setting, defence) for defence in results.in_order(found)]


def _line(results: Results, setting: Setting, defence: str) -> MembershipLine:
    def entry(metric: str) -> Entry | None:
        values, beside = (
            results.asked.get(Key(*setting, defence, "", control, metric)) for control in (MEMBERS, STRANGERS)
        )
        return entry_of(values, beside) if values else None

    counts = results.asked[Key(*setting, defence, "", MEMBERS, "member_strangers")].values
    least, most = int(counts.min()), int(counts.max())
    return MembershipLine(
        defence=defence,
        entries=tuple(entry(metric) for metric in MEMBERSHIP_METRICS),
        strangers=str(least) if least == most else f"{least} to {most}",
    )
