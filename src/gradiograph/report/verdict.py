"""The verdict in plain words. It is never 'safe': attacks that fail prove nothing about better ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gradiograph.report.ceiling import diagnosis
from gradiograph.report.failures import failed_runs
from gradiograph.report.findings import JUDGES, Finding, findings
from gradiograph.report.links import linked
from gradiograph.report.replayed import replayed
from gradiograph.report.results import ATTACK, MISMATCHED, STOCK, UNDEFENDED, Results, Setting
from gradiograph.report.statistics import Key, difference
from gradiograph.report.wording import gap, measure, number, share, span

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLAGS = {
    "truncated": "It ran fewer steps than its paper: a weaker attack than it could be.",
    "approximate": "Its replay of the training is approximate: an attacker who replays it exactly may do better.",
    "partial": "It did not find every film of the batch; for the others it shows what the batch or the public has in "
    "common.",
    "ambiguous": "Several films explain the update about equally well; it shows the best.",
    "rank deficient": "The update does not determine every layer's input; it shows the smallest solution.",
}


class Status(StrEnum):
    """What can be said of a defence, worst first."""

    BREACHED = "breached"
    INCONCLUSIVE = "inconclusive"
    NOT_BREACHED = "not breached by these attacks"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of one defence in one setting.

    Attributes:
        finding: Its strongest attack.
        status: In one word.
        sentence: In words.
        worst: The patient who leaked most, in words.
        notes: What else a reader must know of these numbers.
    """

    finding: Finding
    status: Status
    sentence: str
    worst: str
    notes: tuple[str, ...]

    @property
    def defence(self) -> str:
        """The defence's label."""
        return self.finding.defence


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The audit's outcome: a headline, what it does and does not mean, and a verdict per defence, worst first."""

    headline: str
    meaning: str
    verdicts: tuple[Verdict, ...]


def judge(results: Results) -> Judgement:
    """The verdict on every defence of an audit."""
    told = replayed(results.header)
    if told.differs:
        return Judgement(headline="Inconclusive.", meaning=told.sentence, verdicts=())
    verdicts = []
    for setting in results.settings:
        found = [findings(results, setting, defence) for defence in results.defences(setting)]
        alone = [_verdict(results, ranked) for ranked in found if ranked]
        baseline = next((verdict for verdict in alone if verdict.defence == UNDEFENDED), None)
        verdicts += [_against(baseline, verdict) for verdict in alone]
    verdicts.sort(key=_place)
    unmeasured = _unmeasured(results, verdicts)
    return Judgement(
        headline=_headline(verdicts, unmeasured),
        meaning=" ".join(filter(None, (_meaning(verdicts), _failed(results), told.sentence))),
        verdicts=tuple(verdicts),
    )


def _unmeasured(results: Results, verdicts: Sequence[Verdict]) -> int:
    """The protections every attack on which failed."""
    judged = {(verdict.finding.setting, verdict.defence) for verdict in verdicts}
    attacked = {(Setting(cell.task, cell.protocol), cell.defence) for cell in results.failed if cell.attack}
    return sum(defence != UNDEFENDED for _, defence in attacked - judged)


def _failed(results: Results) -> str:
    """That some cells have no result."""
    count = len(results.failed)
    if not count:
        return ""
    return f"{count} of {results.done} cells failed: what they were to measure is under 'What was not tested'."


def _place(verdict: Verdict) -> tuple[int, bool, list[float]]:
    """Worst first; without protection last among its equals."""
    weakness = [-float(part) for part in verdict.finding.strength]
    return (list(Status).index(verdict.status), verdict.defence == UNDEFENDED, weakness)


def _verdict(results: Results, ranked: Sequence[Finding]) -> Verdict:
    """The verdict on one defence by itself, from its attacks, the strongest first."""
    found = ranked[0]
    link = next(filter(None, (linked(results, one) for one in ranked)), "")
    if found.breached or link:
        status, reason = Status.BREACHED, ""
    elif not found.judged:
        status, reason = Status.INCONCLUSIVE, _why_not_judged(found)
    else:
        status, reason = Status.NOT_BREACHED, ""
    return Verdict(
        finding=found,
        status=status,
        sentence=" ".join(filter(None, (_compared(found), link, reason))),
        worst=_worst(results, found),
        notes=tuple(_notes(results, found)),
    )


def _against(baseline: Verdict | None, verdict: Verdict) -> Verdict:
    """A failure of the attacks says nothing unless they succeed without protection."""
    if verdict.status is not Status.NOT_BREACHED or (baseline and baseline.status is Status.BREACHED):
        return verdict
    reason = "No result without protection is there to compare with." if baseline is None else _NO_BASELINE
    return replace(verdict, status=Status.INCONCLUSIVE, sentence=f"{verdict.sentence} {reason}")


_NO_BASELINE = "The attacks did not succeed even without protection, so their failure under a protection says nothing."


def _why_not_judged(found: Finding) -> str:
    if found.difference is None:
        return "The control with other patients' updates has not run, so the number cannot be judged."
    return "Only one film was scored, so there is no interval and the number cannot be judged."


def _compared(found: Finding) -> str:
    """The strongest attack against its control."""
    metric = found.attacked.metric
    if metric.endswith(("_top1", "_top5")):
        what = "identified" if metric.endswith("top1") else "found among the nearest five"
        text = f"The strongest attack, {found.attack}, {what} {share(found.attacked)}."
        control = f"Given other patients' updates (the control), it {what} {{}}."
        told = share(found.control) if found.control else ""
    else:
        title, mean = measure(metric).title, number(metric, found.attacked.interval.mean)
        text = f"The strongest attack, {found.attack}, reached a mean {title} of {mean} "
        text += f"(95 % interval {span(metric, found.attacked.interval)})."
        control = "Given other patients' updates (the control), it reached {}."
        told = number(metric, found.control.interval.mean) if found.control else ""
    if found.difference is None:
        return text
    return f"{text} {control.format(told)} Difference: {gap(metric, found.difference.interval)}."


def _worst(results: Results, found: Finding) -> str:
    """The patient who leaked most, with that film's own numbers."""
    told = []
    for metric in ("identification_top1", "variance_explained", "psnr", "lpips", "ssim"):
        values = results.tables.get(Key(*found.setting, found.defence, found.attack, ATTACK, metric))
        if values is None or found.worst not in values.films:
            continue
        value = float(values.values[values.films.index(found.worst)])
        if metric == "identification_top1":
            partly = f"identified in {number(metric, value)} of the seeds"
            told.append({0.0: "not identified", 1.0: "identified"}.get(value, partly))
        else:
            told.append(f"{measure(metric).title} {number(metric, value)}")
    return f"Film {found.worst.record} (batch {found.worst.batch}): {', '.join(told)}." if told else ""


def _notes(results: Results, found: Finding) -> list[str]:
    """What else must be known of an attack's numbers."""
    notes = [_FLAGS.get(flag, f"Flag: {flag}.") for flag in results.flags(found.setting, found.defence, found.attack)]
    failed, runs = failed_runs(results, found.setting, found.defence)
    notes += [f"{failed} of {runs} attacks here failed and are not measured."] if failed else []
    key = Key(*found.setting, found.defence, found.attack, ATTACK, "lpips")
    if not found.breached:
        notes += _weaker_signs(results, key)
    told = diagnosis(results, found.setting, found.defence, found.attack)
    notes += [f"Ceiling (oracle): {told.value}"] if told else []
    own = results.tables.get(key)
    stock = results.reference(found.setting, STOCK, "lpips")
    compared = difference(own, stock) if own and stock else None
    if own is not None and stock is not None and compared is not None and not compared.leaks:
        notes.append(
            f"Its LPIPS ({number('lpips', float(own.values.mean()))}) is worth nothing as evidence of a leak: any "
            f"other patient's film of the same class looks as close ({number('lpips', float(stock.values.mean()))})."
        )
    return notes


def _weaker_signs(results: Results, key: Key) -> list[str]:
    """What an attack that identified nobody still read out of the update."""
    for metric in JUDGES[1:]:
        values, control = (results.tables.get(key._replace(metric=metric, control=c)) for c in (ATTACK, MISMATCHED))
        told = difference(values, control) if values and control else None
        if told is not None and told.leaks and told.films > 1:
            return [
                f"Something of the patient does leak: by {measure(metric).title} it does better than its control, "
                f"by {gap(metric, told.interval)}."
            ]
    return []


def _headline(verdicts: Sequence[Verdict], unmeasured: int) -> str:
    if not verdicts:
        return "Nothing was measured."
    protected = [verdict for verdict in verdicts if verdict.defence != UNDEFENDED]
    count = {status: sum(verdict.status is status for verdict in protected) for status in Status}
    missing = f" {unmeasured} {'was' if unmeasured == 1 else 'were'} not measured." if unmeasured else ""
    if count[Status.BREACHED]:
        return _counted(count[Status.BREACHED], len(protected)) + f".{missing}"
    if unmeasured or any(verdict.status is Status.INCONCLUSIVE for verdict in verdicts):
        return f"Inconclusive.{missing}"
    if protected:
        return _counted(0, len(protected)) + " by these attacks."
    return "Without protection, the updates leak. No protection was tested."


def _counted(breached: int, protections: int) -> str:
    if protections == 1:
        return "The protection was breached" if breached else "The protection was not breached"
    return f"{breached} of {protections} protections {'was' if breached == 1 else 'were'} breached"


def _meaning(verdicts: Sequence[Verdict]) -> str:
    """What the headline means, for all settings together."""
    baselines = [verdict for verdict in verdicts if verdict.defence == UNDEFENDED]
    if not baselines:
        return "No result without protection is there, so a protection that held cannot be told from attacks that fail."
    failed = sum(verdict.status is not Status.BREACHED for verdict in baselines)
    if failed == len(baselines):
        return _NO_BASELINE if all(v.finding.judged for v in baselines) else baselines[0].sentence
    text = "Without protection these attacks succeed, so the test can tell a protection that holds from one that fails."
    if failed:
        text += f" In {failed} of {len(baselines)} set-ups they do not, and there a failure says nothing."
    return text + " 'Not breached' means by these attacks, on these films; it is no proof of privacy."
