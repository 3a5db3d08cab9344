"""The lint on audit files, and its verbs."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradiograph.audit import lint_audit, parse_spec, plan
from gradiograph.core import registry
from gradiograph.core.defence import Defence
from gradiograph.core.privacy import PrivacyEvent
from test_audit import AUDIT
from test_cli import call  # noqa: F401 - a fixture


def lint_of(*stacks, **changes):
    content = {**tomllib.loads(AUDIT), **changes, "defences": [[], *stacks]}
    return lint_audit(plan(parse_spec(content), Path()))


def found(*stacks, **changes):
    return [finding.rule.id for finding in lint_of(*stacks, **changes).findings]


CLIP = {"use": "clip", "norm": 0.5}
PRIVATE = {"use": "dp_sgd", "clip_norm": 1.0, "epsilon": 8.0, "delta": 1e-5, "unit": "patient"}


def noise(norm):
    return {"use": "gaussian_noise", "noise_multiplier": 1.0, "clip_norm": norm}


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ([CLIP, noise(0.5)], []),
        ([CLIP, noise(0.1)], ["DP04"]),  # scaled to a fifth of the clip
        ([noise(0.5)], ["DP04"]),  # nothing clips
        ([CLIP, {"use": "gaussian_noise", "snr": 1.0}], ["DP04"]),  # scaled to the update itself
        ([CLIP, {"use": "gaussian_noise", "std": 0.1}], []),
        ([CLIP, {"use": "top_k", "sparsity": 0.5}, noise(0.5)], []),  # never longer than before
        ([CLIP, {"use": "sign_sgd"}, noise(0.5)], ["DP04"]),  # longer than the clip
        ([{"use": "top_k", "sparsity": 0.5}], ["DP11"]),
        ([CLIP, {"use": "qsgd", "levels": 4}], ["DP11"]),
    ],
)
def test_stacks(stack, expected):
    assert [rule for rule in found(stack) if rule != "DP15"] == expected


def test_dp_sgd_of_patients():
    assert found([PRIVATE], task={"use": "small_cnn"}) == ["DP15"]


def test_noise_that_is_too_little_for_the_claim():
    """The noise of epsilon 1 in one release, over two steps in five rounds."""
    noisy = {**PRIVATE, "epsilon": 1.0, "noise_multiplier": 3.7306}
    rounds = {"victims": {"batches": 2, "size": 2, "rounds": 5}, "task": {"use": "small_cnn"}}
    assert found([noisy], **rounds) == ["DP16", "DP15"]
    assert found([{**noisy, "epsilon": 4.0}], **rounds) == ["DP15"]


def test_clipping_without_noise():
    assert found([{"use": "dp_sgd", "clip_norm": 1.0, "noise_multiplier": 0.0}], task={"use": "small_cnn"}) == [
        "DP11",
        "DP15",
    ]


@pytest.fixture(params=["client", "aggregator"])
def promised(request):
    """A defence of another package that promises the privacy of clients, with too little noise; where its noise is."""

    @registry.register("defence", "promised")
    @dataclass(frozen=True, kw_only=True)
    class Promised(Defence):
        placed = request.param

        @property
        def guarantee(self):
            return "(1, 0.00001)-differential privacy of a client."

        def privacy(self, exposure):
            return PrivacyEvent(unit="client", units=1, noise_multiplier=0.5, delta=1e-5, claimed=1.0)

    yield request.param
    registry._COMPONENTS["defence"].pop("promised")


def test_guarantee_of_clients(promised):
    """The aggregator's noise comes after the sizes were used; the client's goes out beside them."""
    assert found([{"use": "promised"}]) == (["DP16", "DP15"] if promised == "client" else ["DP16"])


def test_delta_against_the_films_of_the_update():
    assert "DP13" in found([{**PRIVATE, "delta": 0.5}], task={"use": "small_cnn"})


@pytest.mark.parametrize(("mode", "guilty"), [("train", True), ("eval", False)])
def test_batch_norm(mode, guilty):
    result = lint_of([CLIP, noise(0.5)], task={"use": "resnet18", "mode": mode})
    assert ("DP07" in [finding.rule.id for finding in result.findings]) is guilty


def test_where_and_what_is_not_checked():
    result = lint_of([CLIP, noise(0.1)])
    assert result.findings[0].where.startswith("defences[1] clip(norm=0.5) + gaussian_noise(")
    assert "delta" in result.unchecked["DP13"]
    assert not lint_of().setups


def test_check_prints_it(call, tmp_path):  # noqa: F811
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT)
    code, out, _ = call("check", file)
    assert code == 0
    assert "DP04" in out
    assert "The audit is valid." in out


def test_verb(call, tmp_path):  # noqa: F811
    file = tmp_path / "client_app.py"
    file.write_text("app = ClientApp(mods=[LocalDpMod(1.0, 1.0, 1.0, 5e-2)])\n")
    code, out, _ = call("lint", tmp_path, "--patients", "50")
    assert code == 1
    for rule in ("DP01", "DP04", "DP06", "DP13"):
        assert rule in out
    audit_file = tmp_path / "audit.toml"
    audit_file.write_text(AUDIT)
    code, out, _ = call("lint", audit_file)
    assert code == 1
    assert "defences[1]" in out
    file.write_text("app = ClientApp()\n")
    code, out, _ = call("lint", tmp_path)
    assert code == 0
    assert "No mechanism" in out
    code, _, err = call("lint", tmp_path / "none")
    assert code == 2
    assert "no such file" in err
