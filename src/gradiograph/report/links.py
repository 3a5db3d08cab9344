"""Whether pictures lead to a film or to a patient by another search of the gallery than the headline's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.core.records import PATIENT
from gradiograph.report.results import ATTACK, MISMATCHED, Results
from gradiograph.report.statistics import Key, difference, summary
from gradiograph.report.wording import measure, share

if TYPE_CHECKING:
    from gradiograph.report.findings import Finding


def linked(results: Results, found: Finding) -> str:
    """By which other search of the gallery its pictures lead to the patient, or to the film; empty where by none.

    A picture that a matcher links to its patient is a breach, however it looks. Where the film is identified already,
    other searches for it say nothing new.
    """
    key = Key(*found.setting, found.defence, found.attack, ATTACK, "")
    searches = [metric for metric in results.metrics if metric.endswith("_top1") and metric != found.attacked.metric]
    patients = [metric for metric in searches if metric.startswith(PATIENT)]
    films = [] if found.breached else [metric for metric in searches if metric not in patients]
    leaks = [
        list(filter(None, (_leak(results, key._replace(metric=metric)) for metric in group)))
        for group in (patients, films)
    ]
    return max(leaks[0] or leaks[1] or [(0.0, "")])[1]


def _leak(results: Results, key: Key) -> tuple[float, str] | None:
    """By how much a search does better than its control, and in words; None where it does not."""
    values, control = (results.tables.get(key._replace(control=one)) for one in (ATTACK, MISMATCHED))
    told = difference(values, control) if values and control else None
    if values is None or control is None or told is None or not told.leaks:
        return None
    shown, beside = share(summary(values)), share(summary(control))
    return told.interval.mean, f"{measure(key.metric).title}, {key.attack}: {shown}; the control: {beside}."
