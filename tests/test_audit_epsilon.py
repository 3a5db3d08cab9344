"""`gradiograph audit-epsilon`: what is claimed, what is measured, and when the claim falls."""

import pytest

from gradiograph.defences import DPSGD
from test_cli import call  # noqa: F401 - a fixture

MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2))
"""
AUDIT = """
name = "canaries"
purpose = "test"
authorised_by = "test"
seeds = [1]
data = { use = "phantom", image_size = 16, patients = 60, fractions = [0.3, 0.2, 0.5] }
victims = { batches = 2, size = 2 }
task = { use = "small_model:build" }
protocol = { use = "fedsgd" }
defences = [[], [{ use = "dp_sgd", clip_norm = 1.0, epsilon = 1.0, delta = 1e-5 }]]
threat = { knows_labels = true }
attacks = [{ use = "rog", steps = 2 }]
metrics = ["mse"]
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "small_model.py").write_text(MODEL)
    (tmp_path / "audit.toml").write_text(AUDIT)
    return tmp_path / "audit.toml"


def test_correct_code(call, file):  # noqa: F811
    code, out, _ = call("audit-epsilon", file)
    assert code == 0
    assert "at most 1 of one image, at delta = 1e-05" in out
    assert "with 95% confidence" in out
    assert "5.34" in out
    assert "Not refuted. This is no proof" in out


def test_correct_code_over_rounds(call, file):  # noqa: F811
    """The noise is found for the budget of all rounds."""
    code, out, _ = call("audit-epsilon", file, "--set", "victims.rounds=30")
    assert code == 0
    assert "over 30 rounds" in out


def test_claim_that_no_canaries_could_refute(call, file):  # noqa: F811
    code, out, _ = call("audit-epsilon", file, "--set", "defences.1.0.epsilon=30.0")
    assert code == 0
    assert "could not be" in out


def test_epsilon_that_is_not_composed(call, file):  # noqa: F811
    """The noise of epsilon 1 in one round, claimed for thirty of them."""
    settings = ["victims.rounds=30", "defences.1.0.noise_multiplier=3.7306"]
    code, out, _ = call("audit-epsilon", file, *(part for setting in settings for part in ("--set", setting)))
    assert code == 1
    assert "REFUTED" in out


def test_noise_forgotten(call, file, monkeypatch):  # noqa: F811
    right = DPSGD.on_example_sum
    monkeypatch.setattr(DPSGD, "on_example_sum", lambda self, total, expected, _: right(self, total, expected, None))
    code, out, _ = call("audit-epsilon", file)
    assert code == 1
    assert "at least 5.34" in out
    assert "REFUTED" in out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("defences=[[]]", "clips each example"),
        ("defences.1=[{use='dp_sgd', clip_norm=1.0, noise_multiplier=0.0}]", "has no noise"),
    ],
)
def test_nothing_to_audit(call, file, setting, message):  # noqa: F811
    code, _, err = call("audit-epsilon", file, "--set", setting)
    assert code == 2
    assert message in err
