"""The audit's own policy: whether every protection holds what the audit file asks for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from gradiograph.report.failures import failed_runs
from gradiograph.report.findings import findings
from gradiograph.report.privacy import IDENTIFICATION
from gradiograph.report.results import ATTACK, MISMATCHED, UNDEFENDED, Results, Setting, task_at
from gradiograph.report.statistics import Key, difference
from gradiograph.report.utility import Model, baseline, models, score

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The limits.

    Attributes:
        max_identification: Of the upper 95 % limit of the share of films identified beyond the mismatched control.
        max_loss: Of the score lost against no protection; None is no limit.
    """

    max_identification: float
    max_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """One protection under the policy.

    Attributes:
        setting: Task and protocol.
        defence: Its label.
        failures: What it does not hold, in words; empty where it passes.
        loss: The score that it lost, None where that is not known.
        bytes_up: What all clients send in a round, 0 where nothing was trained.
    """

    setting: Setting
    defence: str
    failures: tuple[str, ...]
    loss: float | None
    bytes_up: float

    @property
    def passed(self) -> bool:
        """Whether it holds everything."""
        return not self.failures


def policy_of(results: Results, changes: Mapping[str, float] | None = None) -> Policy | None:
    """The audit file's policy with these limits changed; None where neither says what identification is allowed."""
    given = {**(results.header["spec"].get("policy") or {}), **(changes or {})}
    return Policy(**given) if "max_identification" in given else None


def rule(results: Results, policy: Policy, found: Sequence[Model] | None = None) -> tuple[Ruling, ...]:
    """A ruling on every protection of a run.

    A protection passes if, for every attack in every attacked round, the upper 95 % limit of identification beyond the
    mismatched control is within the limit, and the score it lost is. Attacks that fail without any protection prove
    nothing, so then none passes.

    Args:
        results: The log, read.
        policy: The limits.
        found: The run's models; None reads them.
    """
    found = models(results) if found is None else found
    return tuple(
        _ruling(results, policy, found, Setting(task, protocol), defence)
        for task, protocol, defence in product(*map(results.entries, ("tasks", "protocols", "defences")))
        if defence != UNDEFENDED
    )


def _ruling(results: Results, policy: Policy, found: Sequence[Model], setting: Setting, defence: str) -> Ruling:
    model = next((m for m in found if (m.setting, m.defence, m.arm) == (setting, defence, "federated")), None)
    plain = baseline(found, setting)
    loss = model.loss(plain, score(results)) if model and plain else None
    failures = list(_leaks(results, policy, setting, defence))
    if policy.max_loss is not None:
        if loss is None or loss.value is None:
            failures.append(f"what it costs is not known ({loss.undefined if loss else 'it was not trained'})")
        elif loss.value > policy.max_loss:
            failures.append(f"it costs {loss.value:.3f} {score(results).title}, at most {policy.max_loss:g} is allowed")
    return Ruling(
        setting=setting,
        defence=defence,
        failures=tuple(failures),
        loss=loss.value if loss else None,
        bytes_up=model.bytes_up if model else 0.0,
    )


def _leaks(results: Results, policy: Policy, setting: Setting, defence: str) -> Iterator[str]:
    for number in results.rounds:
        place = Setting(task_at(setting.task, number), setting.protocol)
        attacks = results.attacks(place, defence)
        failed, runs = failed_runs(results, place, defence)
        if failed:
            yield f"{failed} of {runs} attacks on round {number} failed and are not measured"
        if not attacks:
            yield f"no attack on round {number} is there"
            continue
        if not any(finding.breached for finding in findings(results, place, UNDEFENDED)):
            yield f"in round {number} the attacks fail even without protection, so they prove nothing"
        for attack in attacks:
            key = Key(*place, defence, attack, ATTACK, IDENTIFICATION)
            own, control = results.tables.get(key), results.tables.get(key._replace(control=MISMATCHED))
            compared = difference(own, control) if own and control else None
            if compared is None:
                yield f"{attack} has no identification beside its control in round {number}"
            # Hits of the control push the difference down; n films still tell nothing below the rule of three.
            elif (upper := max(compared.interval.high, min(1.0, 3 / compared.films))) > policy.max_identification:
                limit, allowed = 100 * upper, 100 * policy.max_identification
                yield (
                    f"{attack} in round {number} identifies up to {limit:.1f} % beyond its control (95 % limit), "
                    f"at most {allowed:g} % is allowed"
                )
