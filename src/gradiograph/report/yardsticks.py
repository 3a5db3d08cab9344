"""How near is near: what each score says of two real films, and which reconstructions are nearer than those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradiograph.report.findings import findings
from gradiograph.report.results import ATTACK, MISMATCHED, Results, Setting
from gradiograph.report.statistics import Key, Values
from gradiograph.report.tables import Entry, entry_of
from gradiograph.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEARER = "nearer_told"
"""What the share of films nearer than two patients goes by."""

YARDSTICKS_MEANING = (
    "What each score says of two real films. A reconstruction counts as nearer than two patients where it is nearer to "
    "its film than all but 1 % of pairs of films of two patients of one class (with fewer than 100 pairs, than all). "
    "Where even two films of one patient are no nearer than that, the score tells films and not patients."
)
YARDSTICK_TITLES = ("Score", "Two films of one patient", "Of two patients", "Told apart (AUROC)", "Nearer than")


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """One score in text: of two films of one patient, of two patients, how well it tells these, and the threshold."""

    metric: str
    cells: tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class NearerLine:
    """The strongest attack on one protection: by each score the share of films nearer than two patients."""

    defence: str
    attack: str
    entries: tuple[Entry | None, ...]


def yardsticks(results: Results) -> list[Yardstick]:
    """What is there to measure by; empty in runs that did not measure it."""
    return [
        Yardstick(
            metric=entry["metric"],
            cells=(
                _spread(entry["metric"], entry["one_patient"]),
                _spread(entry["metric"], entry["two_patients"]),
                "not measured" if entry["told_apart"] is None else f"{entry['told_apart']:.2f}",
                number(entry["metric"], entry["threshold"]),
            ),
        )
        for entry in _entries(results)
    ]


def nearer(results: Results, setting: Setting) -> list[NearerLine]:
    """The films of one setting that are nearer than two patients, by protection, undefended first."""
    lines = []
    for defence in results.defences(setting) if _entries(results) else ():
        strongest = next(iter(findings(results, setting, defence)), None)
        if strongest is not None:
            key = Key(*setting, defence, strongest.attack, ATTACK, "")
            entries = tuple(_nearer(results, key, entry) for entry in _entries(results))
            lines.append(NearerLine(defence=defence, attack=strongest.attack, entries=entries))
    return lines


def _entries(results: Results) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = results.header["yardsticks"]
    return found


def _spread(metric: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no patient has two films"
    low, middle, high = (number(metric, value, unit=False) for value in found["quantiles"])
    return f"{middle} ({low} to {high}; {found['pairs']} pair{'s' * (found['pairs'] != 1)})"


def _nearer(results: Results, key: Key, yardstick: Mapping[str, Any]) -> Entry | None:
    own, control = (
        results.tables.get(key._replace(metric=yardstick["metric"], control=one)) for one in (ATTACK, MISMATCHED)
    )
    if own is None:
        return None
    return entry_of(_told(own, yardstick["threshold"]), _told(control, yardstick["threshold"]) if control else None)


def _told(values: Values, threshold: float) -> Values:
    """Of each film whether it is nearer; one of several seeds by their mean."""
    passed = values.values > threshold if values.larger_leaks_more else values.values < threshold
    return replace(values, metric=NEARER, values=passed.astype(float), larger_leaks_more=True)
