"""A film network: it restores and denoises, resumes to the last bit, and says whose films it knows."""

import io

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from attack_observations import ignore
from gradiograph.attacks import MaximumAPosteriori, Restored
from gradiograph.attacks.batch_statistics import batch_statistics, statistics_misfit
from gradiograph.attacks.denoising import DenoisingPrior
from gradiograph.attacks.film_network import FilmNetwork, FilmPrior, load_film_prior, pack_film_prior
from gradiograph.attacks.film_training import Rehearsal, degrade, fit_film_network
from gradiograph.attacks.network_training import SAVE
from gradiograph.audit import load_spec, plan, train_restorer
from gradiograph.cli import app
from gradiograph.core.errors import BadInput, BadSetting, MissingKnowledge
from gradiograph.core.fitted import require_disjoint
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.threat import ThreatModel
from gradiograph.data.phantom import phantom
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import check_attack, load_rooms, specimens
from gradiograph.testing.specimens import observe

SIDE = 16
SHAPE = (1, SIDE, SIDE)
STEPS = 2 * SAVE
load_rooms()


@pytest.fixture(scope="module")
def films():
    return torch.from_numpy(phantom(image_size=SIDE, patients=60).read(list(range(60))))[:, :1]


def train(films, steps=STEPS, checkpoint=None, save=lambda _: None, rehearsal=None):
    return fit_film_network(films, rehearsal, steps, stream(0, "film network"), checkpoint, save, ignore)


@pytest.fixture(scope="module")
def prior(films):
    return FilmPrior(network=train(films[:50]), image_shape=SHAPE, card={"films": 50})


@pytest.fixture(scope="module")
def file(prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.npz"
    path.write_bytes(pack_film_prior(prior, ["someone"], b"k" * 32))
    return path


def error(images, films):
    return float((images - films).square().mean())


def test_it_restores_films_of_others_better_than_it_was_given_them(films, prior):
    seen = degrade(films[50:], films[40:50], stream(0, "degrade"))
    restored = prior.restore(seen)
    assert restored.shape == seen.shape
    assert error(restored, films[50:]) < 0.7 * error(seen, films[50:])


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_it_takes_noise_off(films, prior, sigma):
    noisy = films[50:] + sigma * torch.randn(films[50:].shape, generator=stream(0, "noise"))
    assert error(prior.denoise(noisy, sigma), films[50:]) < 0.6 * sigma**2


def test_colours_go(films):
    with global_stream(0, "network"):
        network = FilmNetwork(3).eval()
    images = torch.rand(2, 3, SIDE, SIDE, generator=stream(0, "colours"))
    restored = FilmPrior(network=network, image_shape=(3, SIDE, SIDE), card={}).restore(images)
    assert torch.equal(restored[:, 0], restored[:, 1])
    assert restored.shape == images.shape


def test_degradations_stay_in_range_and_differ_from_film_to_film(films):
    seen = degrade(films[:8], films[8:16], stream(0, "degrade"))
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    assert len({round(error(a, b), 6) for a, b in zip(seen, films[:8], strict=True)}) == 8


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(films):
    kept = []
    whole = train(films[:20], save=lambda state: kept.append(_copy(state)))
    again = train(films[:20], checkpoint=kept[0])
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


def _copy(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)  # noqa: TID251 - weights only


def test_a_rehearsal_teaches_what_the_attack_leaves(films):
    upside_down = Rehearsal(films[:40].flip(2), films[:40])
    bare, told = train(films[:40]), train(films[:40], rehearsal=upside_down)
    restored = [FilmPrior(network=n, image_shape=SHAPE, card={}).restore(films[50:].flip(2)) for n in (bare, told)]
    assert error(restored[1], films[50:]) < 0.7 * error(restored[0], films[50:])


def test_samples_are_like_films(films, prior):
    drawn = prior.sample(8, stream(0, "sample"))
    noise = torch.rand(8, *SHAPE, generator=stream(0, "noise"))
    nearest = [
        float(torch.cdist(some.flatten(1), films.flatten(1)).min(dim=1).values.mean()) for some in (drawn, noise)
    ]
    assert nearest[0] < 0.6 * nearest[1]


def test_what_is_written_is_read_and_names_nobody(prior, file, films):
    read = load_film_prior(file, SHAPE)
    assert read.card == {"films": 50}
    assert torch.equal(read.restore(films[:2]), prior.restore(films[:2]))
    assert b"someone" not in file.read_bytes()
    with pytest.raises(BadInput, match="films of 1 of the 2 patients"):
        require_disjoint(file, ["someone", "other"])
    require_disjoint(file, ["other"])


def test_other_files_and_other_shapes_are_refused(file, tmp_path):
    with pytest.raises(BadInput, match=r"shape \(1, 16, 16\)"):
        load_film_prior(file, (3, 16, 16))
    with pytest.raises(BadInput, match="does not exist"):
        load_film_prior(tmp_path / "none.npz", SHAPE)
    np.savez(tmp_path / "other.npz", format=np.array("gradiograph film network 1"))
    with pytest.raises(BadInput, match="restorer"):
        load_film_prior(tmp_path / "other.npz", SHAPE)


def test_restored_keeps_the_contract_of_attacks(file):
    check_attack(lambda: Restored(of={"use": "rog", "steps": 2, "labels": "joint"}, restorer=file))
    check_attack(lambda: MaximumAPosteriori(denoiser=file, steps=3))


def test_restored_is_the_other_attack_then_the_network(file, prior):
    seen = observe(specimens.task(), specimens.batch())
    inner = {"use": "rog", "steps": 3}
    raw = build("attack", inner)(seen, stream(0, "attack"), ignore)
    found = Restored(of=inner, restorer=file)(seen, stream(0, "attack"), ignore)
    assert torch.equal(found.images, prior.restore(raw.images))
    assert Restored(of=inner, restorer=file).requires == (*build("attack", inner).requires, "public_data")


def test_the_denoisers_slope_points_from_noise_to_films(prior, films):
    blurred = films[50:].mean(dim=(2, 3), keepdim=True).expand_as(films[50:]).clone().requires_grad_()
    density = DenoisingPrior(prior=prior)
    (slope,) = torch.autograd.grad(density.surprise(blurred, 0.5, stream(0, "noise")), blurred)
    assert float((-slope * (films[50:] - blurred.detach())).sum()) > 0
    noise = torch.rand(films[50:].shape, generator=stream(0, "other"))
    calm = [float(density.surprise(some, 0.5, stream(0, "noise"))) for some in (films[50:], noise)]
    assert calm[0] < calm[1]


@pytest.mark.parametrize("protocol", [FedSGD(), FedAvg(local_steps=3, learning_rate=1e-7)], ids=["fedsgd", "fedavg"])
def test_running_statistics_tell_the_batchs_own(protocol):
    task = build("task", {"use": "resnet18"}, (1, 32, 32), 0)
    private = specimens.batch(4, (1, 32, 32))
    seen = observe(task, private, protocol=protocol)
    mean, var = batch_statistics(seen)["bn1"]
    inputs = torch.nn.functional.conv2d(private.images, task.model.conv1.weight, stride=2, padding=3)
    torch.testing.assert_close(mean, inputs.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(var, inputs.var(dim=(0, 2, 3)), rtol=1e-2, atol=1e-4)
    misfit = statistics_misfit(seen)
    assert float(misfit(private.images)) < 0.01 * float(misfit(specimens.films(4, (1, 32, 32), "others")))


def test_statistics_need_batchnorm_in_train_mode_and_the_buffers():
    attack = MaximumAPosteriori(statistics=1.0, steps=2)
    assert "knows_buffers" in attack.requires
    attack.check(build("task", {"use": "resnet18"}, (1, 32, 32), 0))
    with pytest.raises(BadSetting, match="BatchNorm"):
        attack.check(build("task", {"use": "resnet18", "mode": "eval"}, (1, 32, 32), 0))
    with pytest.raises(MissingKnowledge, match="knows_buffers"):
        attack(observe(specimens.task(), specimens.batch(), threat=ThreatModel(knows_buffers=False)), stream(0), ignore)


AUDIT = """
name = "restored"
purpose = "test"
authorised_by = "the phantom is no patient"
data = { use = "phantom", image_size = 16, channels = 1, patients = 120 }
victims = { batches = 2, size = 2 }
task = { use = "lenet", num_classes = 2 }
protocol = { use = "fedsgd" }
attacks = [
    { use = "latent_matching", labels = "joint", steps = 2 },
    { use = "restored", restorer = "network.npz", of = { use = "latent_matching", labels = "joint", steps = 2 } },
]
metrics = ["psnr"]
"""


def test_train_and_audit_on_the_command_line(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    training = ["prior", "train", str(tmp_path / "audit.toml"), "--kind", "restorer", "--steps", "3", "--rehearse", "2"]
    out = ["--out", str(tmp_path / "network.npz")]
    told = CliRunner().invoke(app, [*training, *out])
    assert told.exit_code == 0, told.output
    assert "Among them 4 that the attack itself had reconstructed." in told.output
    assert (tmp_path / "network.npz").stat().st_mode & 0o077 == 0
    ran = CliRunner().invoke(app, ["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.output
    assert "restored(restorer=#" in (tmp_path / "run" / "report.html").read_text()
    assert isinstance(CliRunner().invoke(app, [*training, *out]).exception, BadSetting)


def test_a_restorer_that_knows_a_victim_is_refused(tmp_path, prior):
    (tmp_path / "audit.toml").write_text(AUDIT)
    spec = load_spec(tmp_path / "audit.toml")
    train_restorer(spec, tmp_path, tmp_path / "network.npz", 1, 0)
    victim = plan(spec, tmp_path).films.victims[0].records[0].patient
    (tmp_path / "network.npz").write_bytes(pack_film_prior(prior, [victim], b"k" * 32))
    with pytest.raises(BadInput, match="are attacked"):
        plan(spec, tmp_path)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    (tmp_path / "network.npz.part").write_bytes(b"damaged")
    with pytest.raises(BadSetting, match="other settings, or damaged"):
        train_restorer(load_spec(tmp_path / "audit.toml"), tmp_path, tmp_path / "network.npz", 1, 0)
