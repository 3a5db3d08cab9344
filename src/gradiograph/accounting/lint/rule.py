"""A rule of the lint: a pure function of the facts that it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Literal

from gradiograph.accounting.lint.setup import Setup

Severity = Literal["error", "warning"]
Statement = Callable[..., str | None]
_FACTS = frozenset(field.name for field in fields(Setup)) - {"where"}


@dataclass(frozen=True)
class Rule:
    """What makes an epsilon wrong or empty.

    Attributes:
        id: Such as "DP03"; never used for another rule.
        name: In words.
        severity: "error" where the true epsilon is larger than the claimed one, or there is none; "warning" where it is
            true, but says less than it seems to.
        reference: Where it is shown.
        statement: From the facts, by keyword, to what is wrong with them, or None. Facts without a default are needed.
    """

    id: str
    name: str
    severity: Severity
    reference: str
    statement: Statement

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return (inspect.getdoc(self.statement) or "").partition("\n")[0]

    @property
    def needs(self) -> tuple[str, ...]:
        """The facts without which the rule cannot be checked."""
        parameters = inspect.signature(self.statement).parameters.values()
        return tuple(parameter.name for parameter in parameters if parameter.default is parameter.empty)

    def missing(self, setup: Setup) -> tuple[str, ...]:
        """The needed facts that are not known of a set-up."""
        return tuple(name for name in self.needs if getattr(setup, name) is None)

    def judge(self, setup: Setup) -> str | None:
        """What is wrong with a set-up, None where nothing is or where a needed fact is not known."""
        if self.missing(setup):
            return None
        return self.statement(**{name: getattr(setup, name) for name in inspect.signature(self.statement).parameters})


_RULES: dict[str, Rule] = {}


def rule(identifier: str, name: str, *, severity: Severity, reference: str) -> Callable[[Statement], Statement]:
    """Enter the decorated function, whose keywords are facts of a `Setup`, as a rule.

    Raises:
        ValueError: the identifier is taken, or a keyword is no fact.
    """

    def enter(statement: Statement) -> Statement:
        foreign = set(inspect.signature(statement).parameters) - _FACTS
        if identifier in _RULES or foreign:
            msg = f"Rule {identifier} is registered twice, or asks for what is no fact: {sorted(foreign)}."
            raise ValueError(msg)
        _RULES[identifier] = Rule(identifier, name, severity, reference, statement)
        return statement

    return enter


def rules() -> tuple[Rule, ...]:
    """All rules, by identifier."""
    return tuple(_RULES[identifier] for identifier in sorted(_RULES))


@dataclass(frozen=True)
class Finding:
    """A rule that a set-up breaks."""

    rule: Rule
    where: str
    message: str


@dataclass(frozen=True)
class Lint:
    """What the rules say of some set-ups, and what they could not see.

    Attributes:
        setups: What was read.
        findings: Errors first.
        unchecked: By rule identifier, the facts that were not known of any set-up, so that the rule judged none.
    """

    setups: tuple[Setup, ...]
    findings: tuple[Finding, ...]
    unchecked: dict[str, tuple[str, ...]]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.rule.severity == "error" for finding in self.findings)


def lint(setups: Iterable[Setup]) -> Lint:
    """Judge set-ups by every rule.

    >>> [finding.rule.id for finding in lint([Setup(where="here", delta=0.1, units=100)]).findings]
    ['DP13']
    """
    read = tuple(setups)
    found = [
        Finding(each, setup.where, message) for each in rules() for setup in read if (message := each.judge(setup))
    ]
    unchecked = {
        each.id: tuple(dict.fromkeys(name for setup in read for name in each.missing(setup)))
        for each in rules()
        if read and all(each.missing(setup) for setup in read)
    }
    return Lint(read, tuple(sorted(found, key=lambda finding: finding.rule.severity != "error")), unchecked)
