"""Statements about a set-up that make its epsilon wrong or empty."""

from gradiograph.accounting.lint import accounting_rules, mechanism_rules
from gradiograph.accounting.lint.flower import lint_app
from gradiograph.accounting.lint.rule import Finding, Lint, Rule, lint, rule, rules
from gradiograph.accounting.lint.setup import Setup

__all__ = [
    "Finding",
    "Lint",
    "Rule",
    "Setup",
    "accounting_rules",
    "lint",
    "lint_app",
    "mechanism_rules",
    "rule",
    "rules",
]
