"""The report for machines: JSON, in a published schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gradiograph.log import retained_until
from gradiograph.report.comparisons import comparisons
from gradiograph.report.failures import not_measured
from gradiograph.report.frontier import frontier
from gradiograph.report.policy import policy_of, rule
from gradiograph.report.privacy import guarantee
from gradiograph.report.residual import RISKS, residual_risks
from gradiograph.report.results import Results
from gradiograph.report.statistics import summary
from gradiograph.report.taxonomy import threat_class
from gradiograph.report.utility import models
from gradiograph.report.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradiograph.log import Log
    from gradiograph.report.statistics import Key, Values
    from gradiograph.report.utility import Model
    from gradiograph.report.verdict import Judgement

SCHEMA_VERSION = 1
_AS_IS = ("name", "purpose", "authorised_by", "created", "status", "command", "environment", "threat", "data")


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that `to_json` keeps."""
    text = (files("gradiograph.report") / "report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def to_json(log: Log) -> str:
    """All that the report says, without pictures.

    Args:
        log: The run, also one that is not finished.

    Returns:
        JSON text; numbers are in the metrics' own units, intervals are of 95 %.

    Raises:
        LogProblem: nothing was scored yet.
    """
    results = Results.read(log)
    header, judgement, found = results.header, judge(results), models(results)
    until = retained_until(header)
    threat = threat_class(header["threat"])
    content = {
        "schema_version": SCHEMA_VERSION,
        **{name: header[name] for name in _AS_IS},
        "complete": results.complete,
        "seeds": sorted({row.seed for row in results.rows}),
        "threat_class": {"letter": threat.letter, "name": threat.name},
        "retained_until": until.isoformat() if until else None,
        "purged": header.get("purged"),
        "verdict": {"headline": judgement.headline, "meaning": judgement.meaning},
        "protections": _protections(results, judgement),
        "leakage": _summaries(results.tables),
        "yardsticks": results.header["yardsticks"],
        "membership": _summaries(results.asked),
        "comparisons": [
            {**_setting(one.setting), "defence": one.defence, "metric": one.metric, **asdict(one.change.interval),
             "batches": one.batches, "chance": one.chance, "corrected": one.corrected, "needed": one.needed}
            for setting in results.settings for one in comparisons(results, setting)
        ],
        "utility": _utility(results, found),
        "budgets": header["privacy"],
        "policy": _policy(results, found),
        "inputs": header.get("inputs", []),
        "not_measured": [entry._asdict() for entry in not_measured(results)],
    }  # fmt: skip
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _protections(results: Results, judgement: Judgement) -> list[dict[str, Any]]:
    risks = residual_risks(results, judgement)
    return [
        {
            **_setting(verdict.finding.setting),
            "defence": verdict.defence,
            "status": verdict.status.value,
            "attack": verdict.finding.attack,
            "sentence": verdict.sentence,
            "worst_patient": verdict.worst,
            "notes": list(verdict.notes),
            "guarantee": guarantee(results, verdict.defence),
            "risks": dict(zip(RISKS, row.cells, strict=True)),
        }
        for verdict, row in zip(judgement.verdicts, risks, strict=True)
    ]


def _summaries(tables: Mapping[Key, Values]) -> list[dict[str, Any]]:
    return [{**key._asdict(), **_summary(asdict(summary(values)))} for key, values in sorted(tables.items())]


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    interval, worst = found.pop("interval"), found.pop("worst_film")
    return {**{k: v for k, v in found.items() if k != "metric"}, **interval, "worst_record": worst[1]}


def _utility(results: Results, found: Sequence[Model]) -> list[dict[str, Any]]:
    points = frontier(results, found) if found else ()
    return [{**asdict(point), "setting": _setting(point.setting)} for point in points]


def _policy(results: Results, found: Sequence[Model]) -> dict[str, Any] | None:
    policy = policy_of(results)
    if policy is None:
        return None
    rulings = [
        {**_setting(one.setting), "defence": one.defence, "passed": one.passed, "failures": list(one.failures)}
        for one in rule(results, policy, found)
    ]
    limits = {"max_identification": policy.max_identification, "max_loss": policy.max_loss}
    return {**limits, "rulings": rulings}


def _setting(setting: tuple[str, str]) -> dict[str, str]:
    return {"task": setting[0], "protocol": setting[1]}
