"""What a budget means to a patient, in plain sentences."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

from gradiograph.accounting.reconstruction import identification_bound, membership_advantage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.accounting.account import Account
    from gradiograph.accounting.spend import Spend


def whose(account: Account) -> str:
    """The unit in words."""
    return {"image": "one image", "patient": "one patient", "client": "all data of one client"}[account.unit]


def meaning(account: Account, spent: Sequence[Spend], films: int) -> tuple[str, ...]:
    """One sentence on picking the film, one on membership, and one on patients with several units.

    Args:
        account: The budget.
        spent: The mechanisms behind it.
        films: N equally likely films for the first sentence.
    """
    if account.kind == "no noise":
        return ("Without noise nothing is promised: an attacker may learn everything.",)
    found, advantage = identification_bound(spent, films), membership_advantage(spent)
    sentences = [
        f"Shown {films} films that are equally likely, one of which is the right one, no attacker picks it in more "
        f"than {found:.1%} of cases; guessing gives {1 / films:.1%}.",
        f"Asked whether {whose(account)} was in the training, no attacker's hit rate exceeds its rate of false alarms "
        f"by more than {advantage:.1%}; guessing gives 0 %.",
    ]
    if account.group > 1:
        wider = account.group_epsilon
        sentences.append(
            f"A patient here has up to {account.group} of these units, and for such a patient epsilon is "
            f"{'infinite' if isinf(wider) else f'{wider:.4g}'}."
        )
    return tuple(sentences)
