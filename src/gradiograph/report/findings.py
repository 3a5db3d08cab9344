"""Each attack on each defence against its mismatched control."""

from __future__ import annotations

from dataclasses import dataclass

from gradiograph.report.results import ATTACK, MISMATCHED, Results, Setting
from gradiograph.report.statistics import Difference, Film, Key, Summary, by_leakage, difference, summary

JUDGES = ("identification_top1", "variance_explained", "psnr", "lpips", "ssim", "ms_ssim", "mse")
"""The metrics that can judge an attack; the first that was measured does."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One attack on one defence, against its mismatched control.

    Attributes:
        setting: Task and protocol.
        defence: Its label.
        attack: Its label.
        attacked: The judging metric of the attack.
        control: The same of the mismatched control; None where that did not run.
        difference: Attack minus control.
        worst: The film that leaked most.
    """

    setting: Setting
    defence: str
    attack: str
    attacked: Summary
    control: Summary | None
    difference: Difference | None
    worst: Film

    @property
    def breached(self) -> bool:
        """Whether the attack does better than its control with an interval that excludes 0."""
        return self.judged and self.difference is not None and self.difference.leaks

    @property
    def judged(self) -> bool:
        """Whether there is a control, and an interval: one film has none, but for the exact bound of a share."""
        if self.difference is None:
            return False
        return self.difference.films > 1 or self.attacked.metric.endswith(("_top1", "_top5"))

    @property
    def strength(self) -> tuple[bool, float, float]:
        """What orders attacks: breached or not, by how much more than the control, and the value itself."""
        sign = 1.0 if self.attacked.larger_leaks_more else -1.0
        gained = self.difference.interval.mean if self.difference else 0.0
        return (self.breached, sign * gained, sign * self.attacked.interval.mean)


def findings(results: Results, setting: Setting, defence: str) -> list[Finding]:
    """Every attack on a defence, the strongest first."""
    found = []
    for attack in results.attacks(setting, defence):
        key = Key(*setting, defence, attack, ATTACK, "")
        metrics = [key._replace(metric=name) for name in (*JUDGES, *results.metrics)]
        judged = next(candidate for candidate in metrics if candidate in results.tables)
        values, control = results.tables[judged], results.tables.get(judged._replace(control=MISMATCHED))
        found.append(
            Finding(
                setting=setting,
                defence=defence,
                attack=attack,
                attacked=summary(values),
                control=summary(control) if control else None,
                difference=difference(values, control) if control else None,
                worst=by_leakage(results.tables, key)[0],
            )
        )
    return sorted(found, key=lambda finding: finding.strength, reverse=True)
