"""What a claim of privacy is worth: exact formulas, and statements that make an epsilon wrong or empty."""

from gradiograph.accounting.exact_gaussian import gaussian_delta, gaussian_epsilon, gaussian_noise_multiplier
from gradiograph.accounting.lint import Finding, Lint, Rule, Setup, lint, lint_app, rules

__all__ = [
    "Finding",
    "Lint",
    "Rule",
    "Setup",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_noise_multiplier",
    "lint",
    "lint_app",
    "rules",
]
