"""A generator: it begins as the components, learns beyond them, is searched by `map`, and says whose films it knows."""

import copy

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from attack_observations import ignore
from gradiograph.attacks import MaximumAPosteriori
from gradiograph.attacks.eigen import fit_eigen
from gradiograph.attacks.generator import Generated, VariationalAutoencoder, begin, load_generator, pack_generator
from gradiograph.attacks.generator_training import bound, calibrate, fit_generator, moved
from gradiograph.attacks.network_training import SAVE
from gradiograph.attacks.parametrisations import Around
from gradiograph.audit import load_spec, plan, train_generator
from gradiograph.cli import app
from gradiograph.core.errors import BadInput, BadSetting
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from gradiograph.data.phantom import phantom
from gradiograph.testing import check_attack, load_rooms
from gradiograph.testing.specimens import observe

SIDE, COMPONENTS = 16, 12
SHAPE = (3, SIDE, SIDE)
load_rooms()


@pytest.fixture(scope="module")
def films():
    return torch.from_numpy(phantom(image_size=SIDE, channels=3, patients=160).read(list(range(160))))


@pytest.fixture(scope="module")
def prior(films):
    return fit_eigen(films[:140], COMPONENTS)


def train(films, prior, steps, checkpoint=None, save=lambda _: None):
    return fit_generator(films, prior, steps, stream(0, "generator"), checkpoint, save, ignore)


@pytest.fixture(scope="module")
def network(films, prior):
    return train(films[:140], prior, 2 * SAVE)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "generator.npz"
    path.write_bytes(pack_generator(network, SHAPE, {"films": 140}, ["someone"], b"k" * 32))
    return path


def untrained(prior):
    with global_stream(0, "network"):
        return begin(prior)


def test_it_begins_as_probabilistic_principal_components(films, prior):
    network, seen = untrained(prior), films[140:]
    latent = torch.randn(3, COMPONENTS, generator=stream(0, "latent"))
    torch.testing.assert_close(network.decode(latent).expand(-1, 3, -1, -1), prior.images(latent))
    mean, log_variance = network.encode(seen[:, :1])
    # Of the linear model x = mean + W z + noise the posterior is known: N((W'W + s2 I)^-1 W'(x - mean), s2 (...)^-1).
    loads, noise = (prior.components * prior.std[:, None]).double(), prior.residual**2
    precision = loads @ loads.T + noise * torch.eye(COMPONENTS).double()
    expected = torch.linalg.solve(precision, loads @ (seen[:, 0].flatten(1) - prior.mean).double().T).T
    torch.testing.assert_close(mean.double(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        log_variance[0].double().exp(), noise * torch.linalg.inv(precision).diagonal(), rtol=1e-3, atol=1e-6
    )


def test_it_learns_what_the_components_do_not_hold(films, prior, network):
    seen = moved(films[140:, :1], stream(0, "moved"))
    learned, plain = calibrate(copy.deepcopy(network), seen), calibrate(untrained(prior), seen)
    assert bound(learned, seen) > bound(plain, seen) + 0.02
    shown = [Generated(network=part) for part in (learned, plain)]
    with torch.no_grad():
        images = [part.images(part.encode(seen), (1, SIDE, SIDE)) for part in shown]
    errors = [float((some - seen).square().mean()) for some in images]
    assert errors[0] < errors[1]
    assert float(learned.log_sigma.exp()) ** 2 == pytest.approx(errors[0], rel=0.02)


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(films, prior):
    kept = []
    whole = train(films[:40], prior, SAVE + 5, save=lambda state: kept.append(copy.deepcopy(state)))
    again = train(films[:40], prior, SAVE + 5, checkpoint=kept[0])
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


def test_films_are_moved_a_little_and_stay_films(films):
    some = moved(films[:8], stream(0, "moved"))
    assert 0 <= float(some.min()) <= float(some.max()) <= 1
    away = (some - films[:8]).square().flatten(1).mean(dim=1)
    assert (away > 0).all()
    assert float(away.mean()) < float((films[8:16] - films[:8]).square().mean())


def test_around_it_any_film_can_be_shown_and_not_without(films, network):
    seen, near = films[140:144], Generated(network=network)
    exact = Around(inner=near, count=COMPONENTS, sigma=0.02, planes=1)
    latent = exact.encode(seen)
    assert latent.shape == (4, COMPONENTS + SIDE * SIDE)
    torch.testing.assert_close(exact.images(latent, SHAPE), seen, rtol=0, atol=1e-5)
    assert not torch.allclose(near.images(near.encode(seen), SHAPE), seen, atol=0.01)
    edged = seen.clone()
    edged[:, :, :3, :3] = 1  # a burned-in mark: twenty times what usually is beside
    latent = exact.encode(edged)
    exact.project(latent)
    torch.testing.assert_close(exact.images(latent, SHAPE)[:, :, :3, :3], edged[:, :, :3, :3], rtol=0, atol=1e-5)
    latent[:, COMPONENTS:] = 1e3
    exact.project(latent)
    assert latent[:, COMPONENTS:].max() == pytest.approx(1 / 0.02)
    start = exact.start(2, SHAPE, stream(0, "start"))
    assert not start[:, COMPONENTS:].any()


def test_what_is_written_is_read_and_another_shape_is_refused(network, file, films, tmp_path):
    read = load_generator(file, SHAPE)
    assert read.card == {"films": 140}
    latent = read.encode(films[:2])
    assert torch.equal(read.images(latent, SHAPE), Generated(network=network).images(latent, SHAPE))
    assert b"someone" not in file.read_bytes()
    with pytest.raises(BadInput, match=r"shape \(3, 16, 16\)"):
        load_generator(file, (1, 16, 16))
    with pytest.raises(BadSetting, match="height and width"):
        read.images(latent, (3, 32, 32))
    with pytest.raises(BadInput, match="--kind generator"):
        load_generator(tmp_path / "none.npz", SHAPE)
    np.savez(tmp_path / "other.npz", format=np.array("gradiograph generator 1"))
    with pytest.raises(BadInput, match="generator"):
        load_generator(tmp_path / "other.npz", SHAPE)


def test_colours_have_planes_of_their_own():
    colours = torch.rand(30, 3, 10, 12, generator=stream(0, "colours"))
    network = untrained(fit_eigen(colours, 4))
    assert isinstance(network, VariationalAutoencoder)
    assert network.shape == (3, 10, 12)
    shown = Around(inner=Generated(network=network), count=4, sigma=0.1, planes=3)
    torch.testing.assert_close(shown.images(shown.encode(colours), (3, 10, 12)), colours, rtol=0, atol=1e-5)


def test_map_searches_the_generators_latent(network, file, films, tmp_path):
    one = tmp_path / "one.npz"
    one.write_bytes(pack_generator(network, (1, SIDE, SIDE), {}, ["someone"], b"k" * 32))
    check_attack(lambda: MaximumAPosteriori(generator=one, steps=3))
    check_attack(lambda: MaximumAPosteriori(generator=one, around=True, steps=3))
    task = build("task", {"use": "lenet", "num_classes": 2}, SHAPE, 0)
    private = Batch(films[150:151], torch.tensor([0]))
    seen = observe(task, private, threat=ThreatModel(public_data=True))
    found = MaximumAPosteriori(generator=file, steps=60, learning_rate=0.1)(seen, stream(0, "attack"), ignore)
    mean = films[:140].mean(dim=0)
    assert float((found.images - private.images).square().mean()) < 0.5 * float((mean - private.images).square().mean())
    near = MaximumAPosteriori(generator=file, around=True).started_at(private.images)
    assert near is not None


def test_a_prior_and_a_generator_exclude_each_other(file):
    with pytest.raises(BadSetting, match="not of both"):
        MaximumAPosteriori(generator=file, prior=file)
    assert "public_data" in MaximumAPosteriori(generator=file).requires


AUDIT = """
name = "generated"
purpose = "test"
authorised_by = "the phantom is no patient"
data = { use = "phantom", image_size = 16, channels = 1, patients = 160 }
victims = { batches = 2, size = 2 }
task = { use = "lenet", num_classes = 2 }
protocol = { use = "fedsgd" }
attacks = [{ use = "map", generator = "generator.npz", around = true, steps = 2 }]
ceiling = { blends = [0.1], jacobian = 0 }
metrics = ["psnr"]
"""


def test_train_and_audit_on_the_command_line(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    training = ["prior", "train", str(tmp_path / "audit.toml"), "--kind", "generator", "--steps", "3"]
    out = ["--components", "8", "--out", str(tmp_path / "generator.npz")]
    told = CliRunner().invoke(app, [*training, *out])
    assert told.exit_code == 0, told.output
    assert "beside the components" in told.output
    assert (tmp_path / "generator.npz").stat().st_mode & 0o077 == 0
    ran = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.output
    assert "generator=#" in (tmp_path / "run" / "report.html").read_text()
    assert isinstance(CliRunner().invoke(app, [*training, *out]).exception, BadSetting)


def test_a_generator_that_knows_a_victim_is_refused(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    spec = load_spec(tmp_path / "audit.toml")
    train_generator(spec, tmp_path, tmp_path / "generator.npz", 4, 1)
    victim = plan(spec, tmp_path).films.victims[0].records[0].patient
    network = load_generator(tmp_path / "generator.npz", (1, SIDE, SIDE)).network
    (tmp_path / "generator.npz").write_bytes(pack_generator(network, (1, SIDE, SIDE), {}, [victim], b"k" * 32))
    with pytest.raises(BadInput, match="are attacked"):
        plan(spec, tmp_path)


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    (tmp_path / "audit.toml").write_text(AUDIT)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSetting, match="no GPU"):
        plan(load_spec(tmp_path / "audit.toml", ["device=cuda"]), tmp_path)
