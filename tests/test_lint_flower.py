"""The lint on Flower apps: what it finds in their source, in their objects, and what it leaves alone."""

from importlib import import_module
from textwrap import dedent

import pytest

from gradiograph.accounting import lint_app
from gradiograph.core.errors import BadInput

PYPROJECT = """
[tool.flwr.app.config]
num-server-rounds = 5
clip = 0.5
privacy.delta = 1e-5
"""


@pytest.fixture
def app(tmp_path):
    """Write an app of these files; gives its folder."""

    def write(pyproject=PYPROJECT, **files):
        (tmp_path / "pyproject.toml").write_text(pyproject)
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
        return tmp_path

    return write


def found(target, **known):
    return [finding.rule.id for finding in lint_app(target, **known).findings]


def dp_sgd(*, engine="engine = PrivacyEngine()", extra="", restore="", metrics='{"num-examples": 32}'):
    return f"""
        from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
        from flwr.clientapp import ClientApp
        from opacus import PrivacyEngine

        app = ClientApp()

        @app.train()
        def train(message, context):
            {engine}
            {restore}
            model, optimizer, loader = engine.make_private(
                module=build(), optimizer=sgd(), data_loader=films(), noise_multiplier=1.0, max_grad_norm=1.0{extra}
            )
            fit(model, optimizer, loader)
            print(engine.get_epsilon(delta=context.run_config["privacy.delta"]))
            content = {{"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({metrics})}}
            return Message(content=RecordDict(content), reply_to=message)
    """


RESTORED = 'engine.accountant.load_state_dict(context.state["spent"])'


def test_accountant_made_anew_in_every_round(app):
    """The pattern of many examples: an engine inside the training function, so that its epsilon is one round's."""
    result = lint_app(app(client_app=dp_sgd(metrics="{}")))
    assert [finding.rule.id for finding in result.findings] == ["DP01"]
    assert "5 rounds" in result.findings[0].message
    assert result.findings[0].where == "client_app.py:12 make_private"


def test_accountant_that_is_restored(app):
    assert found(app(client_app=dp_sgd(restore=RESTORED, metrics="{}"))) == []


def test_shuffling(app):
    shuffled = dp_sgd(restore=RESTORED, metrics="{}", extra=", poisson_sampling=False")
    assert found(app(client_app=shuffled)) == ["DP02"]


def test_own_accountant_over_a_shuffled_loader(app):
    client = """
        from opacus.accountants import RDPAccountant

        accountant = RDPAccountant()

        def train_private(model, films, sigma, clip):
            loader = DataLoader(films, batch_size=8, shuffle={shuffle})
            for batch in loader:
                accountant.step(noise_multiplier=sigma, sample_rate=8 / len(films))
                total = clip_each(grads(model, batch), clip)
                total += torch.randn_like(total) * sigma * clip
                apply(model, total)
    """
    assert "DP02" in found(app(client_app=client.replace("{shuffle}", "True")))
    poisson = client.replace("DataLoader(films, batch_size=8, shuffle={shuffle})", "DPDataLoader(films, 0.1)")
    assert "DP02" not in found(app(client_app=poisson))


def test_counts_metrics_and_norms(app):
    metrics = '{"num-examples": len(films()), "train_loss": 0.1, "grad_norm": 2.0}'
    result = lint_app(app(client_app=dp_sgd(restore=RESTORED, metrics=metrics)))
    told = {finding.rule.id: finding.message for finding in result.findings}
    assert set(told) == {"DP08", "DP09", "DP15"}
    assert told["DP08"].startswith("grad_norm computed")
    assert told["DP09"].startswith("train_loss of")


def test_what_a_numpy_client_returns(app):
    client = """
        class Client(NumPyClient):
            def fit(self, parameters, config):
                engine = PrivacyEngine()
                engine.accountant.load_state_dict(self.spent)
                model = engine.make_private(module=self.model, noise_multiplier=1.0, max_grad_norm=1.0)
                results = {"loss": 0.1}
                return weights(model), len(self.films), results
    """
    findings = lint_app(app(client_app=client)).findings
    assert [finding.rule.id for finding in findings] == ["DP09", "DP15"]
    assert findings[0].message.startswith("loss of")


def test_slices_of_volumes(app):
    slices = dp_sgd(restore=RESTORED + "\n            loader = SliceDataset()", metrics="{}")
    assert found(app(client_app=slices), images_per_patient=40) == ["DP12"]
    assert found(app(client_app=slices), images_per_patient=1) == []


def test_delta_of_the_settings_against_the_number_of_patients(app):
    folder = app(client_app=dp_sgd(restore=RESTORED, metrics="{}"))
    assert found(folder, units=200_000) == ["DP13"]
    assert found(folder, units=2_000) == []
    assert "DP13" in lint_app(folder).unchecked


def strategy(inner="FedAvg()", wrapper="DifferentialPrivacyServerSideFixedClipping", extra=""):
    return f"""
        from flwr.serverapp.strategy import {wrapper}, FedAvg, FedMedian

        def main(grid, context):
            inner = {inner}
            strategy = {wrapper}(
                inner, noise_multiplier=1.0, clipping_norm=context.run_config["clip"], num_sampled_clients=4{extra}
            )
            strategy.start(grid=grid, initial_arrays=arrays(), num_rounds=3)
    """


CLIENT = """
    from flwr.clientapp import ClientApp
    from flwr.clientapp.mod import {mod}

    app = ClientApp(mods=[{mod}])

    @app.train()
    def train(message, context):
        return reply(MetricRecord({{"num-examples": {examples}}}))
"""


def test_noise_over_clients_and_a_mean_over_sizes(app):
    folder = app(server_app=strategy(), client_app=CLIENT.format(mod="message_size_mod", examples="len(films)"))
    assert found(folder) == ["DP03"]


def test_delta_of_flowers_own_accountant(app):
    server = strategy(extra=", accountant=RdpAccountant(PrivacyConfig(target_delta={delta}, population_size=50))")
    client = CLIENT.format(mod="message_size_mod", examples="1")
    assert found(app(server_app=server.format(delta="0.02"), client_app=client)) == ["DP13"]
    assert found(app(server_app=server.format(delta="1e-3"), client_app=client)) == []


@pytest.mark.parametrize(
    ("server", "examples"),
    [
        (strategy(extra=", accountant=spent"), "len(films)"),  # Flower then refuses unequal weights
        (strategy(), "1"),
        (strategy("FedMedian()"), "len(films)"),  # weighs nobody; what it does to the sensitivity is not known here
    ],
)
def test_a_mean_that_weighs_all_the_same(app, server, examples):
    assert found(app(server_app=server, client_app=CLIENT.format(mod="message_size_mod", examples=examples))) == []


def test_clipping_on_the_client_that_no_client_does(app):
    server = strategy(wrapper="DifferentialPrivacyClientSideFixedClipping")
    lacking = CLIENT.format(mod="message_size_mod", examples="1")
    assert found(app(server_app=server, client_app=lacking)) == ["DP04"]
    assert found(app(server_app=server, client_app=CLIENT.format(mod="fixedclipping_mod", examples="1"))) == []


def local(arguments):
    return f"""
        from flwr.clientapp import ClientApp
        from flwr.clientapp.mod import LocalDpMod

        CLIP = 0.5
        app = ClientApp(mods=[LocalDpMod({arguments})])
    """


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("CLIP, CLIP, 1.0, 1e-5", ["DP01", "DP04", "DP06"]),
        ("CLIP, 2 * CLIP, 1.0, 1e-5", ["DP01", "DP06"]),
        ("clip, 2 * clip, 1.0, 1e-5", ["DP01", "DP06"]),
        ("clip, clip, 1.0, 1e-5", ["DP01", "DP04", "DP06"]),
        ("clipping_norm=0.5, sensitivity=0.01, epsilon=50, delta=1e-5", ["DP01", "DP04", "DP05"]),
    ],
)
def test_local_privacy_mod(app, arguments, expected):
    assert found(app(client_app=local(arguments))) == expected


def test_local_privacy_mod_for_one_round(app):
    one = PYPROJECT.replace("rounds = 5", "rounds = 1")
    assert found(app(one, client_app=local("CLIP, 2 * CLIP, 1.0, 1e-5"))) == ["DP06"]


def own(noise, name="private_mod", seed="", model="GroupNorm"):
    return f"""
        import numpy as np
        {seed}
        norm = nn.{model}

        def {name}(message, context, call_next):
            reply = call_next(message, context)
            update = clip_update(read(reply), clip_norm)
            {noise}
            return write(reply, update, model.state_dict(), model.parameters())
    """


ALL = "update = update + np.random.normal(0, sigma * clip_norm, update.shape)"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (own(ALL), []),
        (own(ALL.replace("sigma * clip_norm", "0.3")), ["DP04"]),
        (own(ALL).replace("clip_update(read(reply), clip_norm)", "read(reply)").replace("clip_norm", "0.3"), ["DP04"]),
        (own(ALL.replace("sigma", "sqrt(2 * log(1.25 / delta)) / epsilon")), ["DP06"]),
        (own("update[np.argsort(update)[-9:]] += np.random.normal(0, sigma * clip_norm, 9)"), ["DP10"]),
        (own("mask = abs(update) > t; update += mask * np.random.normal(0, sigma * clip_norm)"), ["DP10"]),
        (own("update[mask] += np.random.normal(0, sigma * clip_norm)"), []),
        (own("update = np.where(abs(update) > np.percentile(abs(update), 90), update, 0)"), ["DP11"]),
        (own("update = compress(update)"), []),
        (own("update = topk(update)", name="compress"), []),  # compression that is called so
        (own(ALL, seed="np.random.seed(0)"), ["DP14"]),
        (own(ALL, seed="np.random.seed(entropy())"), []),
        (own(ALL, model="BatchNorm2d"), ["DP07"]),
    ],
)
def test_a_mod_of_ones_own(app, source, expected):
    assert found(app(client_app=source)) == expected


def test_classical_noise_that_is_computed_elsewhere(app):
    helper = "def sigma(epsilon, delta):\n    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon"
    assert found(app(client_app=own(ALL), noise=helper)) == ["DP06"]


def test_accountant_that_is_none(app):
    folder = app(server_app=strategy(extra=", accountant=None"), client_app="x = ClientApp()")
    assert found(folder) == ["DP03"]


@pytest.mark.parametrize(("weight", "expected"), [("num_examples / total", ["DP03"]), ("1 / num_clients", [])])
def test_an_aggregation_of_ones_own(app, weight, expected):
    source = f"""
        class PrivateFedAvg(FedAvg):
            def aggregate_fit(self, server_round, results, failures):
                mean = sum(clip_update(update, self.clip) * {weight} for update, num_examples in sized(results))
                mean += np.random.normal(0, self.sigma * self.clip / num_clients, mean.shape)
                return mean
    """
    source = source if expected else source.replace("num_examples", "_")
    assert found(app(server_app=source)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "x = np.random.normal(0, 1)",
        "def augment(image):\n    return image + randn(3)",
        "def encode(mean, std):\n    epsilon = torch.randn_like(std)\n    return mean + std * epsilon",
        "def accuracy(outputs, labels, epsilon=1e-9):\n    return outputs.topk(5) == labels",
    ],
)
def test_noise_that_is_not_for_privacy(app, text):
    result = lint_app(app(task=text))
    assert not result.setups


def test_flower_objects():
    flwr = pytest.importorskip("flwr")
    from flwr.clientapp import ClientApp
    from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
    from flwr.serverapp.strategy import (
        DifferentialPrivacyClientSideAdaptiveClipping,
        DifferentialPrivacyServerSideFixedClipping,
        FedAvg,
        FedMedian,
    )
    from flwr.supercore.privacy_accounting import NeighboringRelation, PrivacyConfig, SamplingMethod
    from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

    assert flwr
    client = ClientApp(mods=[fixedclipping_mod, LocalDpMod(1.0, 1.0, 12.0, 1e-5)])
    assert found(client) == ["DP01", "DP04", "DP05"]
    assert found(client, rounds=1, sensitivity_per_clip=2.0) == ["DP05"]
    assert found(DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 4)) == ["DP03"]
    assert found([DifferentialPrivacyClientSideAdaptiveClipping(FedAvg(), 0.1, 400), FedAvg()]) == ["DP03"]
    config = PrivacyConfig(
        target_delta=0.1,
        population_size=50,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        sampling_method=SamplingMethod.NO_AMPLIFICATION,
    )
    accounted = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 4, accountant=RdpAccountant(config))
    assert found(accounted) == ["DP13"]
    assert lint_app(DifferentialPrivacyServerSideFixedClipping(FedMedian(), 1.0, 1.0, 4), weighting="equal").errors == 0


def test_functions_of_flower_apps():
    pytest.importorskip("flwr")
    from flwr.clientapp import ClientApp
    from flwr.clientapp.mod import LocalDpMod
    from flwr.serverapp import ServerApp

    client, server = ClientApp(mods=[private_mod]), ServerApp()

    @client.train(mods=[LocalDpMod(1.0, 2.0, 1.0, 1e-5)])
    def train(message, context):
        PrivacyEngine().make_private(noise_multiplier=1.0, max_grad_norm=1.0, poisson_sampling=False)  # noqa: F821

    @server.main()
    def main(grid, context):
        DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 4)  # noqa: F821

    assert sorted(found(client)) == ["DP01", "DP01", "DP02", "DP06", "DP11"]
    assert found(server) == ["DP03"]
    old = ClientApp(client_fn=lambda context: None, mods=[private_mod])
    assert found(old) == ["DP11"]


def private_mod(message, context, call_next):
    reply = call_next(message, context)
    return reply.topk(3)


def test_own_objects_and_modules(tmp_path, monkeypatch):
    assert found(private_mod) == ["DP11"]
    (tmp_path / "some_private_app.py").write_text(dedent(local("CLIP, 2 * CLIP, 1.0, 1e-5")))
    monkeypatch.syspath_prepend(tmp_path)
    some_private_app = import_module("some_private_app")

    assert found(some_private_app, rounds=1) == ["DP06"]


def test_source_is_never_run(app):
    assert found(app(client_app="raise SystemExit('it ran')")) == []


def test_bad_input(app, tmp_path):
    for target, message in ((tmp_path / "none", "no such file"), (tmp_path, "no Python files")):
        with pytest.raises(BadInput, match=message):
            lint_app(target)
    with pytest.raises(BadInput, match=r"broken\.py is not Python"):
        lint_app(app(broken="def"))
    with pytest.raises(BadInput, match="No fact 'patients'"):
        lint_app(private_mod, patients=3)
    with pytest.raises(BadInput, match="cannot be read"):
        lint_app(len)


def test_virtual_environments_are_not_read(app):
    folder = app(task="x = 1")
    (folder / "venv").mkdir()
    (folder / "venv" / "mod.py").write_text(dedent(local("1.0, 1.0, 1.0, 1e-5")))
    assert not lint_app(folder).setups
