import stat
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from gradiograph import audit
from gradiograph.attacks.eigen import (
    fit_eigen,
    load_prior,
    save_prior,
    variance_explained,
)
from gradiograph.attacks.parametrisations import Eigen, LowResolution, Pixels
from gradiograph.core.errors import BadInput, BadSetting, DataProblem
from gradiograph.core.fitted import require_disjoint
from gradiograph.core.random import stream
from test_audit import AUDIT
from test_cli import audit_file, call  # noqa: F401 - fixtures

REAL = Path(__file__).parents[2] / "shared" / "data" / "cxr_kermany"
needs_real_films = pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data is absent")
SHAPE = (3, 6, 5)
ALL = "{ use = 'phantom', image_size = 16, patients = 60, fractions = [0.3, 0.2, 0.5] }"
VALIDATION = ALL.replace("{", "{ split = 'val',")


def made_of(components, count, *, channels, seed=0):
    """Films that are a mean plus `components` random directions, with known standard deviations 2^-k."""
    draw = stream(seed, "films")
    size = (channels * SHAPE[1] * SHAPE[2], components)
    directions = torch.linalg.qr(torch.randn(size, generator=draw)).Q
    weights = torch.randn(count, components, generator=draw)
    weights = torch.linalg.qr(weights - weights.mean(dim=0)).Q * (count - 1) ** 0.5
    stds = 0.5 ** torch.arange(components)
    films = 0.5 + (weights * stds) @ directions.T
    return films.reshape(count, channels, *SHAPE[1:]).expand(-1, SHAPE[0], -1, -1), directions, stds


@pytest.fixture
def grey_prior():
    return fit_eigen(made_of(4, 12, channels=1)[0], 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [12, 120])  # fewer films than pixels, and more
def test_the_components_of_films_are_found(channels, count):
    films, directions, stds = made_of(4, count, channels=channels)
    prior = fit_eigen(films, 3)
    assert prior.is_grey == (channels == 1)
    torch.testing.assert_close(prior.mean, torch.full_like(prior.mean, 0.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(prior.std, stds[:3], atol=1e-5, rtol=0)
    torch.testing.assert_close(prior.components @ prior.components.T, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close((prior.components @ directions[:, :3]).abs(), torch.eye(3), atol=1e-4, rtol=0)
    assert prior.residual == pytest.approx(float(stds[3]) / prior.mean.numel() ** 0.5, rel=1e-4)
    share = float(stds[:3].square().sum() / stds.square().sum())
    assert variance_explained(prior, films) == pytest.approx(share, abs=1e-5)
    whitened = prior.encode(films)
    torch.testing.assert_close(whitened.std(dim=0), torch.ones(3), atol=1e-4, rtol=0)


def test_it_agrees_with_an_independent_implementation():
    films = torch.rand(40, 1, 8, 8, generator=stream(0, "noise"))
    prior = fit_eigen(films, 10)
    other = PCA(10, svd_solver="full").fit(films.flatten(1).double().numpy())
    np.testing.assert_allclose(prior.std, np.sqrt(other.explained_variance_), rtol=1e-4)
    overlap = np.abs(prior.components.numpy() @ other.components_.T)
    np.testing.assert_allclose(overlap, np.eye(10), atol=1e-3)


def test_images_and_encode_are_inverse_and_differentiable(grey_prior):
    latent = torch.randn(2, 3, generator=stream(0, "latent"), dtype=torch.float64).requires_grad_()
    images = grey_prior.images(latent)
    assert images.shape == (2, *SHAPE)
    torch.testing.assert_close(grey_prior.encode(images), latent, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(images.square().sum(), latent)
    assert gradient.abs().min() > 0
    with pytest.raises(BadSetting, match="not \\(1, 6, 5\\)"):
        grey_prior.encode(images[:, :1])


def test_too_many_components_are_refused():
    films = made_of(4, 12, channels=1)[0]
    for count in (0, 12):
        with pytest.raises(BadSetting, match=f"components = {count} .* between 1 and 11"):
            fit_eigen(films, count)
    with pytest.raises(DataProblem, match="differ in 4 directions"):
        fit_eigen(films.double(), 5)


def test_a_prior_survives_its_file(grey_prior, tmp_path):
    path = tmp_path / "new" / "prior.npz"
    save_prior(grey_prior, path, ["IM-0115"])
    assert [stat.S_IMODE(where.stat().st_mode) for where in (path.parent, path)] == [0o700, 0o600]
    assert [entry.name for entry in path.parent.iterdir()] == ["prior.npz"]
    read = load_prior(path, SHAPE)
    for name in ("mean", "components", "std"):
        assert torch.equal(getattr(read, name), getattr(grey_prior, name))
    assert (read.residual, read.image_shape) == (grey_prior.residual, SHAPE)
    assert load_prior(path, (1, 6, 5)).images(torch.zeros(2, 3)).shape == (2, 1, 6, 5)


def test_a_prior_of_another_shape_is_refused(grey_prior, tmp_path):
    path = tmp_path / "prior.npz"
    save_prior(grey_prior, path)
    for shape in [(3, 5, 6), (6, 5), (1, 3, 6, 5)]:
        with pytest.raises(BadInput, match="shape"):
            load_prior(path, shape)
    save_prior(fit_eigen(made_of(4, 12, channels=3)[0], 3), path)
    with pytest.raises(BadInput, match=r"shape \(3, 6, 5\).*\(1, 6, 5\)"):
        load_prior(path, (1, 6, 5))


class Harm:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("content", [b"", b"no prior", b"PK\x03\x04 cut", "pickle", "array", "foreign", "bent"])
def test_what_is_no_prior_is_refused(content, grey_prior, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prior.npz"
    save_prior(grey_prior, path)
    arrays = dict(np.load(path))
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pickle":
        np.savez(path, **{**arrays, "mean": np.array([Harm()])})
    elif content == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "foreign":
        np.savez(path, x=np.zeros(3))
    else:
        np.savez(path, **{**arrays, "std": np.full(3, np.nan, dtype=np.float32)})
    with pytest.raises(BadInput, match="gradiograph prior train"):
        load_prior(path, SHAPE)
    assert not (tmp_path / "harmed").exists()


def test_missing_files_and_folders_are_named(grey_prior, tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        load_prior(tmp_path / "none.npz", SHAPE)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        save_prior(grey_prior, tmp_path / "file" / "prior.npz")


def test_a_victim_among_the_prior_s_patients_is_refused_and_none_is_named(grey_prior, tmp_path):
    path = tmp_path / "prior.npz"
    save_prior(grey_prior, path, ["IM-0115", "IM-0115", "IM-0117"])
    assert b"IM-0" not in path.read_bytes()
    require_disjoint(path, ["IM-0116", "IM-0118"])
    with pytest.raises(BadInput, match="1 of the 2 patients") as refused:
        require_disjoint(path, ["IM-0116", "IM-0117"])
    assert "IM-0" not in str(refused.value)
    save_prior(grey_prior, path)
    with pytest.raises(BadInput, match="does not say"):
        require_disjoint(path, ["IM-0116"])


@pytest.mark.parametrize(
    "parametrisation",
    [Pixels(centre=0.5, scale=0.3), LowResolution(factor=1), "eigen"],
    ids=["pixels", "low resolution", "eigen"],
)
def test_encode_inverts_images(parametrisation, grey_prior):
    chosen = Eigen(prior=grey_prior) if parametrisation == "eigen" else parametrisation
    latent = chosen.start(2, SHAPE, stream(0, "start"))
    images = chosen.images(latent, SHAPE)
    assert images.shape == (2, *SHAPE)
    torch.testing.assert_close(chosen.encode(images), latent, atol=1e-5, rtol=0)
    torch.testing.assert_close(chosen.images(chosen.encode(images), SHAPE), images, atol=1e-5, rtol=0)


def test_a_low_resolution_code_is_the_mean_of_what_it_covers():
    chosen = LowResolution(factor=4, grey=True)
    images = torch.rand(2, 3, 8, 12, generator=stream(0, "images"))
    latent = chosen.encode(images)
    assert latent.shape == chosen.start(2, (3, 8, 12), stream(0, "start")).shape
    torch.testing.assert_close(latent[1, 0, 1, 2], images[1, :, 4:, 8:].mean())
    flat = torch.full((2, 3, 8, 12), 0.3)
    torch.testing.assert_close(chosen.images(chosen.encode(flat), (3, 8, 12)), flat)
    assert chosen.encode(images[..., :7, :11]).shape == chosen.start(2, (3, 7, 11), stream(0, "start")).shape
    with pytest.raises(BadSetting, match=r"made for images \(C, H, W\)"):
        chosen.encode(torch.zeros(2, 1, 4, 4, 4))


def test_an_eigen_search_starts_near_the_mean_and_stays_in_its_box(grey_prior):
    chosen = Eigen(prior=grey_prior)
    latent = chosen.start(500, SHAPE, stream(0, "start"))
    assert float(latent.std()) == pytest.approx(0.1, rel=0.1)
    far = torch.tensor([[-9.0, 1.0, 9.0]])
    chosen.project(far)
    assert far.tolist() == [[-4, 1, 4]]
    with pytest.raises(BadSetting, match="gradiograph prior train"):
        chosen.start(1, (3, 7, 7), stream(0, "start"))


def test_the_verb_trains_on_public_films_only(call, audit_file, tmp_path):  # noqa: F811
    path = tmp_path / "phantom.npz"
    code, out, err = call("prior", "train", audit_file, "--out", path, "--components", 8)
    assert code == 0, err
    assert "8 components to 18 public films of 18 patients" in out
    assert "2 films of 2 patients" in out
    assert "2.2 patients per component" in out
    assert "Warning: fewer than 4 patients" in out
    made = audit.plan(audit.load_spec(audit_file), tmp_path)
    prior = load_prior(path, made.films.dataset.image_shape)
    public = torch.from_numpy(made.films.public.read())
    torch.testing.assert_close(prior.mean, public.mean(dim=0).flatten(), atol=1e-5, rtol=0)
    require_disjoint(path, {record.patient for batch in made.films.victims for record in batch.records})
    with pytest.raises(BadInput, match="patients that are attacked"):
        require_disjoint(path, [made.films.public.records[0].patient])
    code, _, err = call("prior", "train", audit_file, "--out", path)
    assert (code, "exists" in err) == (2, True)


def test_the_held_out_share_is_lower_and_few_patients_are_told(call, audit_file, tmp_path):  # noqa: F811
    spec = audit.load_spec(audit_file)
    found = audit.train_prior(spec, tmp_path, tmp_path / "a.npz", 3)
    assert 0 < found.explained_held_out < found.explained < 1
    assert found.patients_per_component == 6
    _, out, _ = call("prior", "train", audit_file, "--out", tmp_path / "b.npz", "--components", 3)
    assert "6.0 patients per component" in out
    assert "Warning" not in out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "between 1 and"),
        ([f"public={ALL}"], "among the victims"),
        ([f"public={VALIDATION}", f"gallery={ALL}"], "among the gallery"),
        (["public={split='train', limit=2}"], "3 or more"),
    ],
)
def test_a_prior_that_cannot_be_honest_is_refused(tmp_path, overrides, words):
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT)
    spec = audit.load_spec(file, overrides)
    with pytest.raises(BadInput, match=words):
        audit.train_prior(spec, tmp_path, tmp_path / "prior.npz", 100)
    assert not (tmp_path / "prior.npz").exists()


def test_an_attack_may_name_the_prior_before_it_is_trained(tmp_path):
    content = {**tomllib.loads(AUDIT), "attacks": [{"use": "needs_a_prior", "prior": "prior.npz"}]}
    assert audit.train_prior(audit.parse_spec(content), tmp_path, tmp_path / "prior.npz", 4).films == 18


@needs_real_films
def test_real_films_of_other_patients_are_explained(tmp_path):
    """Few components of 200 real films hold most of the variance of other patients' films: the prior generalises."""
    source = f"use = 'folder', path = '{REAL}', index = '{REAL}/index.csv', patient_column = 'patient_id'"
    data = f"{{ {source}, image_size = 32 }}"
    public = f"{{ split = 'train', limit = 200, {source}, image_size = 32 }}"
    file = tmp_path / "audit.toml"
    file.write_text(AUDIT)
    spec = audit.load_spec(file, [f"data={data}", f"public={public}"])
    found = audit.train_prior(spec, tmp_path, tmp_path / "prior.npz", 30)
    assert 0.75 < found.explained_held_out < found.explained
