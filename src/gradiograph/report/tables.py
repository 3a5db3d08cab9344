"""The tables of the report as text: leakage per defence and attack, bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from gradiograph.report.findings import findings
from gradiograph.report.links import linked
from gradiograph.report.privacy import guarantee
from gradiograph.report.results import ATTACK, MEAN, MISMATCHED, STOCK, UNDEFENDED, Results, Setting
from gradiograph.report.statistics import Key, Values, summary
from gradiograph.report.wording import basis, number, seconds, size, span

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIMARY = ("identification_top1", "variance_explained", "lpips", "ssim", "psnr")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One metric of one attack, worst film first; `worst` and `median` are empty for shares."""

    mean: str
    interval: str
    worst: str = ""
    median: str = ""
    control: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One attack on one defence, or a control that needs no update."""

    name: str
    entries: tuple[Entry | None, ...]
    breached: bool = False
    flags: tuple[str, ...] = ()
    cost: str = ""
    basis: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """All attacks on one defence, the strongest first."""

    defence: str
    guarantee: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What one client's update weighs under a defence."""

    defence: str
    size: str
    relative: str
    guarantee: str


def columns(results: Results) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics of the main table and those of the table of the rest."""
    return (
        tuple(name for name in PRIMARY if name in results.metrics),
        tuple(name for name in results.metrics if name not in PRIMARY),
    )


def blocks(results: Results, setting: Setting, metrics: Sequence[str]) -> list[Block]:
    """Leakage in one setting, by defence: undefended first, then in the audit file's order."""
    found = []
    for defence in results.defences(setting):
        lines = []
        for finding in findings(results, setting, defence):
            key = Key(*setting, defence, finding.attack, ATTACK, "")
            lines.append(
                Line(
                    name=finding.attack,
                    entries=tuple(_entry(results, key._replace(metric=metric)) for metric in metrics),
                    breached=finding.breached or bool(linked(results, finding)),
                    flags=results.flags(setting, defence, finding.attack),
                    cost=_cost(results, key),
                    basis=basis(finding.attacked.films, finding.attacked.batches, finding.attacked.seeds),
                )
            )
        found.append(Block(defence=defence, guarantee=guarantee(results, defence), lines=tuple(lines)))
    return found


def references(results: Results, setting: Setting, metrics: Sequence[str]) -> list[Line]:
    """The stock film and the mean film: what needs no update at all."""
    names = {STOCK: "Stock film (a public film of the same class)", MEAN: "Mean film (of the attacker's public films)"}
    lines = []
    for control, name in names.items():
        values = [results.reference(setting, control, metric) for metric in metrics]
        if any(found is not None for found in values):
            lines.append(Line(name=name, entries=tuple(entry_of(found) if found else None for found in values)))
    return lines


def wires(results: Results, setting: Setting) -> list[Wire]:
    """The size of one update under each defence, and relative to no protection."""
    sizes: dict[str, float] = {}
    for defence in results.defences(setting):
        place = (*setting, defence, ATTACK)
        own = [c.num_bytes for c in results.cells if (c.task, c.protocol, c.defence, c.control) == place]
        if own:
            sizes[defence] = fmean(own)
    clean = sizes.get(UNDEFENDED, 0.0)
    return [
        Wire(
            defence=defence,
            size=size(weight),
            relative=f"{100 * weight / clean:.3g} %" if clean else "unknown",
            guarantee=guarantee(results, defence),
        )
        for defence, weight in sizes.items()
    ]


def _entry(results: Results, key: Key) -> Entry | None:
    values = results.tables.get(key)
    if values is None:
        return None
    return entry_of(values, results.tables.get(key._replace(control=MISMATCHED)))


def entry_of(values: Values, control: Values | None = None) -> Entry:
    """One metric in text, beside the mean of its control."""
    found = summary(values)
    beside = number(values.metric, float(control.values.mean())) if control else ""
    mean, interval = number(found.metric, found.interval.mean), span(found.metric, found.interval)
    if values.is_share:
        return Entry(mean=mean, interval=interval, control=beside)
    return Entry(
        mean=mean,
        interval=interval,
        worst=number(found.metric, found.worst),
        median=number(found.metric, found.median),
        control=beside,
    )


def _cost(results: Results, key: Key) -> str:
    own = [c.seconds for c in results.cells if (c.task, c.protocol, c.defence, c.attack, c.control) == key[:5]]
    return seconds(median(own)) if own else ""
