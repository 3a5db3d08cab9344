"""What a claim of privacy is worth: exact formulas, and statements that make an epsilon wrong or empty."""

from gradiograph.accounting.canaries import CanaryRun, train_with_canaries
from gradiograph.accounting.exact_gaussian import gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier
from gradiograph.accounting.lint import Finding, Lint, Rule, Setup, lint, lint_app, rules
from gradiograph.accounting.one_run import LowerBound, largest_bound, lower_bound

__all__ = [
    "CanaryRun",
    "Finding",
    "Lint",
    "LowerBound",
    "Rule",
    "Setup",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_noise_multiplier",
    "largest_bound",
    "lint",
    "lint_app",
    "lower_bound",
    "rules",
    "train_with_canaries",
]
