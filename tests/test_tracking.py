"""A run in MLflow: its numbers can be read there, and nothing of a patient."""

import sys

import pytest
from typer.testing import CliRunner

from gradiograph.cli import app
from gradiograph.core.errors import BadInput, MissingExtra
from gradiograph.report import Results, track
from gradiograph.report.frontier import frontier
from gradiograph.report.utility import models
from test_frontier import PROTECTIONS, make

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return make(tmp_path_factory.mktemp("log") / "run")


def test_the_numbers_of_the_frontier_are_in_mlflow_and_no_record_is(log, tmp_path):
    store = tmp_path / "mlruns"
    told = CliRunner().invoke(app, ["track", str(log.directory), "--uri", str(store), "--experiment", "films"])
    assert told.exit_code == 0, told.output
    client = mlflow.MlflowClient(tracking_uri=str(store))
    runs = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    (audit,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert audit.info.run_id in told.stdout
    assert audit.data.params["attacks"] == "rog"
    children = {run.data.params["defence"]: run for run in runs if run is not audit}
    results = Results.read(log)
    points = {point.defence: point for point in frontier(results, models(results))}
    assert set(children) == set(PROTECTIONS) == set(points)
    for name, point in points.items():
        metrics = children[name].data.metrics
        assert metrics["leakage"] == pytest.approx(point.leakage.mean)
        assert metrics["utility"] == pytest.approx(point.utility.value)
        assert metrics["bytes per round"] == point.bytes_up
        assert "round 1/rog/identification_top1 excess" in metrics
    assert children["none"].data.tags["gradiograph.verdict"] == "breached"

    sent = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    secret = {row.record for row in log.rows()} | {str(log.directory)}
    assert not [name for name in secret if name.encode() in sent]


def test_a_server_that_refuses_leaves_one_clear_message(log):
    with pytest.raises(BadInput, match=r"MLflow did not take the run \(.*Check --uri"):
        track(log.directory, "nosuch://place")


def test_without_mlflow_there_is_one_clear_message(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'gradiograph\[mlflow\]'"):
        track(log.directory)
