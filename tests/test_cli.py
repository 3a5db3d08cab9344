import sys

import pytest

from gradiograph.audit import builtin, load_spec, parse_spec, plan
from gradiograph.cli import main
from gradiograph.core import registry
from gradiograph.log import Log
from test_audit import AUDIT


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command line in a folder of its own: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradiograph", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def audit_file(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT)
    return file


SMALL = [
    "--set",
    "seeds=[1]",
    "--set",
    "defences=[[]]",
    "--set",
    "defended={}",
    "--set",
    "attacks=[{use='rog', steps=1}]",
]


def test_run_score_and_report(call, audit_file, tmp_path):
    code, out, _ = call("run", audit_file, *SMALL)
    assert code == 0
    report = tmp_path / "runs" / "tiny" / "report.html"
    assert str(report) in out
    assert report.exists()
    code, _, err = call("run", audit_file, *SMALL)
    assert code == 2
    assert "--resume" in err
    assert call("run", audit_file, *SMALL, "--resume")[0] == 0
    assert call("score", report.parent, "--metric", "ms_ssim")[0] == 0
    assert "ms_ssim" in {row.metric for row in Log.open(report.parent).rows()}
    assert "|" in call("report", report.parent, "--format", "md")[1]
    assert "rows.csv" in call("report", report.parent, "--format", "csv")[1]


def test_check_prints_assumptions_grid_and_cost(call, audit_file):
    code, out, _ = call("check", audit_file, *SMALL)
    assert code == 0
    assert "knows labels" in out
    assert "rog(steps=1)" in out
    assert "hours" in out


def test_init_writes_a_file_that_is_checked(call, tmp_path):
    assert call("init")[0] == 0
    code, _, err = call("init")
    assert code == 2
    assert "exists" in err
    spec = load_spec(tmp_path / "audit.toml", ["data={use='phantom', image_size=16, patients=60}", "metrics=['mse']"])
    assert plan(spec, tmp_path).cells


def test_every_component_can_be_listed_and_shown(call):
    code, out, _ = call("list")
    assert code == 0
    for kind in registry.KINDS:
        for component in registry.components(kind):
            assert component.name in out
            code, page, _ = call("show", kind, component.name)
            assert code == 0
            assert all(setting in page for setting in component.settings.model_fields)
    assert "lenet" not in call("list", "attack")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "attack", "rogg"], "Did you mean 'rog'"),
        (["list", "attacks"], "Did you mean 'attack'"),
        (["check", "missing.toml"], "gradiograph init"),
        (["report", "missing"], "audit.json"),
        (["score", "missing", "--metric", "mse"], "audit.json"),
        (["run", "audit.toml", "--set", "attacks.0.use=nothing"], "No attack 'nothing'"),
        (["run", "audit.toml", "--update", "a.pt", "b.pt"], "[captured]"),
        (["run", "audit.toml", "--update", "a.pt", "b.pt", "--resume"], "--resume"),
        (["run", "audit.toml", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(call, audit_file, arguments, words):
    code, _, err = call(*arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "gallery"), [("demo.toml", 250), ("demo_frontier.toml", 80)])
def test_the_built_in_audits_are_valid(tmp_path, name, gallery):
    made = plan(parse_spec(builtin(name)), tmp_path)
    assert min(made.films.gallery.count_by_class().values()) >= gallery


@pytest.mark.slow
def test_the_demo_succeeds_where_nothing_protects(call, tmp_path):
    code, out, _ = call("demo")
    assert code == 0
    assert "report.html" in out
    rows = [row for row in Log.open(tmp_path / "gradiograph-demo").rows() if row.metric == "identification_top1"]
    attacked = [row.value for row in rows if (row.defence, row.control) == ("none", "none")]
    control = [row.value for row in rows if (row.defence, row.control) == ("none", "mismatched_update")]
    assert sum(attacked) / len(attacked) > sum(control) / len(control)
    lines = (tmp_path / "gradiograph-demo-frontier" / "frontier.csv").read_text().splitlines()
    assert len(lines) == 7
