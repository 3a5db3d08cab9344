"""Privacy budgets in the report: of whom, by whose account, and what they bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradiograph.report.results import ATTACK, Results, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = ("Protection", "Epsilon of the training, and of whom", "Epsilon of the attacked update", "Noise over clip",
          "Identified at most", "Identified by the attacks", "Membership advantage at most")  # fmt: skip
"""The columns of the table of budgets."""

IDENTIFICATION = "identification_top1"


@dataclass(frozen=True, kw_only=True)
class BudgetLine:
    """One protection with a formal guarantee: its cells under `TITLES`, and what they mean."""

    cells: tuple[str, ...]
    meaning: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """The protections with a formal guarantee under one protocol."""

    protocol: str
    lines: tuple[BudgetLine, ...]


def budgets(results: Results) -> tuple[Budgets, ...]:
    """The budgets of a run, by protocol; empty where no protection has a formal guarantee."""
    entries = list(results.header["privacy"])
    protocols = dict.fromkeys(entry["protocol"] for entry in entries)
    return tuple(
        Budgets(
            protocol=protocol,
            lines=tuple(_line(results, entry) for entry in entries if entry["protocol"] == protocol),
        )
        for protocol in protocols
    )


def guarantee(results: Results, defence: str) -> str:
    """Whether a protection has a formal guarantee, and which, with its epsilon where it is known."""
    stated = results.entries("defences").get(defence, {}).get("guarantee")
    if not stated:
        return "no"
    spent = [entry for entry in results.header["privacy"] if entry["defence"] == defence]
    told = [_epsilon(entry["trained"] or entry["attacked"]) for entry in spent]
    return " ".join([f"yes: {stated}", *(f"Accounted: epsilon {text}." for text in dict.fromkeys(told) if text)])


def excess_bound(results: Results, setting: Setting, defence: str) -> float | None:
    """How much more often than by guessing any attack can identify a film; None without a formal guarantee."""
    entry = account(results, setting, defence)
    return None if entry is None else float(entry["identification_bound"]) - 1 / int(entry["films"])


def trained_epsilon(results: Results, setting: Setting, defence: str) -> float | None:
    """The largest budget of a site over the whole training; None where there is none."""
    entry = account(results, setting, defence)
    return max((float(one["epsilon"]) for one in entry["trained"] or ()), default=None) if entry else None


def account(results: Results, setting: Setting, defence: str) -> Mapping[str, Any] | None:
    """What was accounted for a protection; None without a formal guarantee."""
    entries: list[Mapping[str, Any]] = results.header["privacy"]
    return next((e for e in entries if (e["protocol"], e["defence"]) == (setting.protocol, defence)), None)


def _line(results: Results, entry: Mapping[str, Any]) -> BudgetLine:
    films = int(entry["films"])
    return BudgetLine(
        cells=(
            entry["defence"],
            _epsilon(entry["trained"]) or "not trained",
            _epsilon(entry["attacked"]) or "infinite: the server sees it before the noise",
            f"{entry['noise_multiplier']:.4g}",
            f"{100 * entry['identification_bound']:.3g} % of {films} films (guessing: {100 / films:.2g} %)",
            _measured(results, entry),
            f"{100 * entry['membership_advantage']:.3g} %",
        ),
        meaning=tuple(entry["meaning"]),
    )


def _epsilon(accounts: list[Mapping[str, Any]]) -> str:
    """The largest of the sites' budgets, with the accountants, their difference and the patient's own."""
    if not accounts:
        return ""
    worst = max(accounts, key=lambda one: one["epsilon"])
    whose = {"image": "one image", "patient": "one patient", "client": "all data of one client"}[worst["unit"]]
    by = ", ".join(f"{name} {value:.5g}" for name, value in worst["values"].items())
    text = f"{worst['epsilon']:.4g} of {whose} at delta {worst['delta']:g} ({worst['kind']}; {by}"
    text += f"; difference {worst['difference']:.2g})" if worst["difference"] else ")"
    if worst["group"] > 1:
        text += f", {worst['group_epsilon']:.4g} of a patient with {worst['group']}"
    return text


def _measured(results: Results, entry: Mapping[str, Any]) -> str:
    """The share that the strongest attack identified in any attacked round, and its control."""
    shares = [
        float(values.values.mean())
        for key, values in results.tables.items()
        if key.metric == IDENTIFICATION
        and key.control == ATTACK
        and (key.protocol, key.defence) == (entry["protocol"], entry["defence"])
    ]
    return f"{100 * max(shares):.3g} %" if shares else "not measured"
