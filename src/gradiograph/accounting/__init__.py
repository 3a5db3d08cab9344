"""What a claim of privacy is worth: budgets by two accountants, bounds, a lower bound by audit, and the lint."""

from gradiograph.accounting.account import Account, account
from gradiograph.accounting.calibrate import calibrated_noise
from gradiograph.accounting.canaries import FEWEST as FEWEST_CANARIES
from gradiograph.accounting.canaries import CanaryRun, train_with_canaries
from gradiograph.accounting.exact_gaussian import gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier
from gradiograph.accounting.ledger import is_ledger, read_ledger, write_ledger
from gradiograph.accounting.ledger import load as load_ledger
from gradiograph.accounting.lint import Finding, Lint, Rule, Setup, lint, lint_app, rules
from gradiograph.accounting.meaning import meaning, whose
from gradiograph.accounting.one_run import LowerBound, largest_bound, lower_bound
from gradiograph.accounting.reconstruction import (
    budget_identification,
    gaussian_identification,
    identification_bound,
    membership_advantage,
    renyi_identification,
)
from gradiograph.accounting.revealed import revealed_epsilon
from gradiograph.accounting.spend import Spend, spends

__all__ = [
    "FEWEST_CANARIES",
    "Account",
    "CanaryRun",
    "Finding",
    "Lint",
    "LowerBound",
    "Rule",
    "Setup",
    "Spend",
    "account",
    "budget_identification",
    "calibrated_noise",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_identification",
    "gaussian_noise_multiplier",
    "identification_bound",
    "is_ledger",
    "largest_bound",
    "lint",
    "lint_app",
    "load_ledger",
    "lower_bound",
    "meaning",
    "membership_advantage",
    "read_ledger",
    "renyi_identification",
    "revealed_epsilon",
    "rules",
    "spends",
    "train_with_canaries",
    "whose",
    "write_ledger",
]
