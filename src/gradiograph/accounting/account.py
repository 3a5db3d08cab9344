"""The budget of recorded events: composed over steps and rounds, by two accountants, with the unit that it is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal

from gradiograph.accounting.accountants import pld_epsilon, prv_epsilon, rdp_epsilons
from gradiograph.accounting.exact_gaussian import gaussian_epsilon
from gradiograph.accounting.revealed import revealed_epsilon
from gradiograph.accounting.spend import is_sampled, spends, total_noise_multiplier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradiograph.accounting.spend import Spend
    from gradiograph.core.privacy import PrivacyEvent, Whose

Kind = Literal["exact", "tight", "loose upper bound", "no noise"]

LARGE = 1000.0
"""Above this epsilon numerical accountants need gigabytes, and moments accountants stand in for them."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The budget of one site.

    Attributes:
        site: Who holds the data.
        unit: Whose presence is hidden.
        delta: The chance that the budget does not hold.
        epsilon: The smallest upper bound that is known: the exact value, that of the numerical accountants, or for
            large budgets the better of the moments accountants and `revealed_epsilon`.
        kind: "exact": nothing is sampled. "tight": two numerical accountants. "loose upper bound": two moments
            accountants. "no noise": there is no guarantee.
        values: What each accountant says, by its name.
        group: The most units that one patient has.
        group_epsilon: The patient's epsilon at the same delta; that of the unit where `group` is 1.
        claimed: The largest epsilon that the events claim; None where none does.
    """

    site: str
    unit: Whose
    delta: float
    epsilon: float
    kind: Kind
    values: dict[str, float]
    group: int = 1
    group_epsilon: float
    claimed: float | None = None

    @property
    def difference(self) -> float:
        """Between the two accountants of others, 0 where there are none."""
        found = [value for name, value in self.values.items() if name in _PAIRED]
        return abs(found[0] - found[1]) if len(found) == 2 and all(map(isfinite, found)) else 0.0

    @property
    def holds(self) -> bool:
        """Whether the claim is true, to one percent; true where nothing is claimed."""
        return self.claimed is None or self.epsilon <= 1.01 * self.claimed


PRV, PLD, EXACT = "Opacus PRV", "dp-accounting PLD", "exact Gaussian"
RDP_OPACUS, RDP_GOOGLE, REVEALED = "Opacus RDP", "dp-accounting RDP", "sampling revealed"
_PAIRED = (PRV, PLD, RDP_OPACUS, RDP_GOOGLE)


def account(events: Iterable[PrivacyEvent]) -> tuple[Account, ...]:
    """The budget of each site and unit. Sites have no patient in common: the federation's budget is the largest.

    Args:
        events: In any order; those of one site and unit compose.
    """
    groups: dict[tuple[str, Whose], list[PrivacyEvent]] = {}
    for event in events:
        groups.setdefault((event.site, event.unit), []).append(event)
    return tuple(_of_site(site, unit, found) for (site, unit), found in groups.items())


def _of_site(site: str, unit: Whose, events: Sequence[PrivacyEvent]) -> Account:
    spent, delta = spends(events), min(event.delta for event in events)
    kind, values = epsilons(spent, delta)
    best, group = min(values.values(), default=inf), max(event.group for event in events)
    claims = [event.claimed for event in events if event.claimed is not None]
    return Account(
        site=site,
        unit=unit,
        delta=delta,
        epsilon=best,
        kind=kind,
        values=values,
        group=group,
        group_epsilon=best if group == 1 else group_epsilon(spent, delta, group),
        claimed=max(claims, default=None),
    )


def epsilons(spent: Sequence[Spend], delta: float) -> tuple[Kind, dict[str, float]]:
    """Epsilon by every accountant that can tell it.

    Args:
        spent: Mechanisms, composed.
        delta: In (0, 1).
    """
    if any(spend.noise_multiplier == 0 for spend in spent):
        return "no noise", {}
    estimate = upper_bound(spent, delta)
    exact = {} if is_sampled(spent) else {EXACT: gaussian_epsilon(total_noise_multiplier(spent), delta)}
    if estimate > LARGE:
        first, second = rdp_epsilons(spent, delta)
        values = {**exact, RDP_OPACUS: first, RDP_GOOGLE: second}
        return (
            ("exact", values) if exact else ("loose upper bound", {**values, REVEALED: revealed_epsilon(spent, delta)})
        )
    error, interval = _resolution(estimate)
    numeric = {PRV: prv_epsilon(spent, delta, error=error), PLD: pld_epsilon(spent, delta, interval=interval)}
    return ("exact" if exact else "tight"), {**exact, **numeric}


def upper_bound(spent: Sequence[Spend], delta: float) -> float:
    """An upper bound on epsilon that costs no memory: the least of the moments and of the revealed one."""
    return min(*rdp_epsilons(spent, delta), revealed_epsilon(spent, delta))


def group_epsilon(spent: Sequence[Spend], delta: float, group: int) -> float:
    """The epsilon, at this delta, for this many units that come and go together, each drawn by itself.

    Exact for Gaussian mechanisms without sampling, which see `group` times the sensitivity; by privacy loss
    distributions of the binomial mixture with it. Where that may exceed `LARGE`, the revealed bound for a group that
    takes part as a whole whenever one of its units is drawn.
    """
    wider = [replace(spend, noise_multiplier=spend.noise_multiplier / group) for spend in spent]
    if any(spend.noise_multiplier == 0 for spend in spent):
        return inf
    if not is_sampled(spent):
        return gaussian_epsilon(total_noise_multiplier(wider), delta)
    whole = [replace(spend, sample_rate=1 - (1 - spend.sample_rate) ** group) for spend in wider]
    estimate = revealed_epsilon(whole, delta)
    if estimate > LARGE:
        return estimate
    return pld_epsilon(spent, delta, interval=_resolution(estimate)[1], group=group)


def _resolution(estimate: float) -> tuple[float, float]:
    """The error of the one and the interval of the other, for a budget of about this size."""
    return max(0.01, 1e-3 * estimate), 1e-4 if estimate < 10 else 1e-3
