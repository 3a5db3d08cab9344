"""A run's numbers in MLflow: aggregates alone, nothing of a patient."""

from __future__ import annotations

import os
import re
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import BadInput, MissingExtra, reason
from gradiograph.log import Log
from gradiograph.report.findings import findings
from gradiograph.report.frontier import frontier
from gradiograph.report.results import Results, Setting, task_at
from gradiograph.report.utility import FEDERATED, models
from gradiograph.report.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradiograph.report.frontier import Point

    Client = Any  # mlflow.MlflowClient, of a package that may be missing

_FORBIDDEN = re.compile(r"[^\w\-. :/]")


def track(directory: Path | str, uri: str | None = None, experiment: str = "gradiograph") -> str:
    """Send a run to MLflow: one run for the audit, and one below it for each protection of each task and protocol.

    Sent are the labels of the components, the threat model, versions, the verdicts, and means with their intervals;
    of the trainings the scores after every round. No record, pseudonym, path or picture is, and no command line.

    Args:
        directory: The run's folder.
        uri: The tracking server or folder; None is what MLflow is set to.
        experiment: Its name; made where it is not there.

    Returns:
        The id of the audit's run.

    Raises:
        MissingExtra: MLflow is not installed.
        BadInput: the server cannot be reached or refuses, or the folder holds no run with results.
    """
    log = Log.open(directory)
    results = Results.read(log)
    try:
        client = _client(uri)
        found = client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else client.create_experiment(experiment)
        return _send(client, place, results, log)
    except BadInput:
        raise
    except Exception as error:
        msg = f"MLflow did not take the run ({reason(error)}). Check --uri; the run itself is untouched."
        raise BadInput(msg) from None


def _client(uri: str | None) -> Client:
    try:
        from mlflow import MlflowClient
    except ImportError:
        msg = "Tracking needs the package mlflow-skinny, which is not installed: pip install 'gradiograph[mlflow]'."
        raise MissingExtra(msg) from None
    if uri and not uri.startswith("http"):  # a folder, which MLflow 3 takes only where one says so
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(tracking_uri=uri)


def _send(client: Client, place: str, results: Results, log: Log) -> str:
    header, judgement = results.header, judge(results)
    audit: str = client.create_run(place, run_name=header["name"], tags=_tags(results)).info.run_id
    client.set_tag(audit, "gradiograph.verdict", judgement.headline)
    for name, value in _assumptions(results).items():
        client.log_param(audit, name, value)
    found = models(results)
    points = {(point.setting, point.defence): point for point in frontier(results, found)} if found else {}
    statuses = {(v.finding.setting, v.defence): v.status.value for v in judgement.verdicts}
    for task, protocol in dict.fromkeys((t, p) for t in results.entries("tasks") for p in results.entries("protocols")):
        for defence in results.entries("defences"):
            setting = Setting(task, protocol)
            tags = {"mlflow.parentRunId": audit, "gradiograph.verdict": statuses.get((setting, defence), "")}
            child = client.create_run(place, run_name=defence, tags=tags).info.run_id
            for name, value in {"task": task, "protocol": protocol, "defence": defence}.items():
                client.log_param(child, name, value)
            point = points.get((setting, defence))
            for name, number in (
                *_leakage(results, setting, defence).items(),
                *(_cost(point).items() if point else ()),
            ):
                client.log_metric(child, _FORBIDDEN.sub("_", name), number)
            _rounds(client, child, log, setting, defence)
            client.set_terminated(child)
    client.set_terminated(audit, status="FINISHED" if results.complete else "KILLED")
    return audit


def _tags(results: Results) -> dict[str, str]:
    environment = results.header["environment"]
    versions = {
        f"gradiograph.{name}": str(environment[name]) for name in ("gradiograph", "torch") if name in environment
    }
    return {
        **versions,
        "gradiograph.status": results.header["status"],
        "gradiograph.created": results.header["created"],
    }


def _assumptions(results: Results) -> dict[str, str]:
    """What the numbers rest on, by name: labels, in which no path is, and the threat model."""
    header = results.header
    lists = {kind: "; ".join(results.entries(kind)) for kind in ("tasks", "protocols", "attacks")}
    seeds = ", ".join(map(str, sorted({row.seed for row in results.rows})))
    threat = {f"threat.{name}": str(value) for name, value in header["threat"].items()}
    utility = header["utility"] or {}
    trained = {f"utility.{name}": str(utility[name]) for name in ("rounds", "sites", "score") if name in utility}
    return {**lists, "seeds": seeds, **threat, **trained}


def _leakage(results: Results, setting: Setting, defence: str) -> dict[str, float]:
    """Every attack's judging metric and its excess over the mismatched control, in every attacked round."""
    told: dict[str, float] = {}
    for number in results.rounds:
        for finding in findings(results, Setting(task_at(setting.task, number), setting.protocol), defence):
            stem = f"round {number}/{finding.attack}/{finding.attacked.metric}"
            told[stem] = finding.attacked.interval.mean
            if finding.control is not None and finding.difference is not None:
                told[f"{stem} control"] = finding.control.interval.mean
                found = finding.difference.interval
                told |= {
                    f"{stem} excess": found.mean,
                    f"{stem} excess low": found.low,
                    f"{stem} excess high": found.high,
                }
    return told


def _cost(point: Point) -> dict[str, float]:
    numbers: Mapping[str, float | None] = {
        "leakage": point.leakage.mean,
        "leakage upper": point.upper,
        "utility": point.utility.value,
        "utility low": point.utility.low,
        "utility high": point.utility.high,
        "loss": point.loss.value,
        "on front": float(point.on_front),
        "bytes per round": point.bytes_up,
        "seconds per round": point.seconds,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _rounds(client: Client, run: str, log: Log, setting: Setting, defence: str) -> None:
    """The scores after every round of training, the mean over the seeds."""
    scores: dict[tuple[int, str], list[float]] = {}
    for cell in log.trainings.cells():
        if (cell.task, cell.protocol, cell.defence, cell.arm) == (*setting, defence, FEDERATED):
            for record in cell.history:
                for name, value in record.scores.items():
                    if value is not None:
                        scores.setdefault((record.number, name), []).append(value)
    for (number, name), values in scores.items():
        client.log_metric(run, f"watched/{name}", fmean(values), step=number)
