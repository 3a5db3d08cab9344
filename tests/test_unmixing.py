"""The nonnegative cone, the mixture it begins, and the attack made of both, on cases whose answer is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attack_observations import ignore, observe, task_of
from gradiograph.attacks.cone import extreme_rays, sharpen
from gradiograph.attacks.eigen import fit_eigen, save_prior
from gradiograph.attacks.feature_space import FeatureSpace
from gradiograph.attacks.masks import seen_mixture, summands_of
from gradiograph.attacks.mixture import LADDER, Mixture, row_space, unmix
from gradiograph.attacks.scores import seen_scores
from gradiograph.attacks.unmixing import Unmixing
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, MissingKnowledge
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.tensors import Batch
from gradiograph.data.phantom import phantom
from gradiograph.defences import GaussianNoise, SignSGD, TopK
from gradiograph.metrics import match
from gradiograph.protocols import FedAvg, FedSGD
from gradiograph.testing import load_rooms

SIDE = 16
FEW_STEPS = FedAvg(local_steps=3, learning_rate=1e-4)


def sparse_features(count, share, width=500):
    """(count, width), double, with mean 1; the share of them that is not zero is independent from row to row."""
    generator = stream(0, "features")
    features = torch.rand(count, width, generator=generator, dtype=torch.float64)
    features *= torch.rand(count, width, generator=generator) < share
    return features / features.mean(dim=1, keepdim=True)


def noise_like(matrix, *names):
    return torch.randn(matrix.shape, generator=stream(0, "noise", *names), dtype=matrix.dtype)


def nearest(found, truth):
    """The largest distance of a row of the truth to the nearest found, as a share of its length, and which that is."""
    distances = torch.cdist(found.double(), truth) / truth.norm(dim=1)
    return float(distances.min(dim=0).values.max()), distances.argmin(dim=0)


def random_basis(features):
    """Orthonormal rows that span the features."""
    mixing = torch.randn(len(features), len(features), generator=stream(1, "mixing"), dtype=torch.float64)
    return torch.linalg.qr((mixing @ features).T).Q.T.contiguous()


@pytest.fixture(scope="module")
def phantom_films():
    return torch.from_numpy(phantom(image_size=SIDE, patients=12).read(list(range(12))))[:, :1]


def lenet(classes):
    import gradiograph.tasks  # noqa: F401 - registers the tasks

    return build("task", {"use": "lenet", "num_classes": classes}, (1, SIDE, SIDE), 3)


@pytest.mark.parametrize(("count", "share"), [(3, 0.3), (3, 0.6), (8, 0.3)])
def test_the_extreme_rays_are_the_features(count, share):
    features = sparse_features(count, share)
    basis = random_basis(features)
    rays = extreme_rays(basis, 1e-5, stream(0, "cone"))
    error, places = nearest(rays @ basis, features)
    assert error < 1e-4
    assert sorted(places.tolist()) == list(range(count))


@pytest.mark.parametrize("count", [3, 8])
def test_sharp_rays_are_nearer_to_the_features_under_noise(count):
    features = sparse_features(count, 0.3)
    slopes = torch.randn(200, count, generator=stream(1, "slopes"), dtype=torch.float64)
    clean = slopes @ features
    space = row_space(clean + 0.01 * noise_like(clean), count)
    assert space.noise == pytest.approx(0.01, rel=0.05)
    rays = extreme_rays(space.basis, LADDER[0], stream(0, "cone"))
    sharp = sharpen(rays, space.basis, (0.03, 0.01, 0.01))
    errors = [nearest(each @ space.basis, features)[0] for each in (rays, sharp)]
    assert errors[1] < 0.7 * errors[0] < 1e-3
    torch.testing.assert_close((sharp @ space.basis).mean(dim=1), torch.ones(count, dtype=torch.float64))


@pytest.mark.parametrize(
    "basis",
    [torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]), torch.randn(3, 500, generator=stream(0, "basis"))],
    ids=["no mean", "random"],
)
def test_a_space_without_nonnegative_vectors_has_no_rays(basis):
    assert extreme_rays(torch.nn.functional.normalize(basis.double()), 0.01, stream(0, "cone")) is None


def test_the_slopes_of_three_classes_are_unmixed():
    count, units, generator = 4, 200, stream(0, "classes")
    features = sparse_features(count, 0.4)
    fires = torch.rand(units, count, generator=generator) < 0.5
    head = torch.randn(units, 3, generator=generator, dtype=torch.float64)
    residuals = torch.softmax(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)
    residuals -= torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    slopes = fires * (head @ residuals.T)
    found = unmix(slopes @ features, count, stream(0, "cone"))
    error, places = nearest(found.features, features)
    assert error < 1e-4
    assert sorted(places.tolist()) == list(range(count))
    torch.testing.assert_close(found.mixing[:, places], slopes, rtol=1e-3, atol=1e-3)
    assert found.precision is None


LEVELS = torch.tensor([0.6, -0.4, 0.5], dtype=torch.float64)


def two_class_gradient(noise, width=500):
    """Features (3, D), scales (U,), masks (U, 3) and scale * masks * levels @ features + noise times its own size."""
    features, generator = sparse_features(3, 0.5, width), stream(0, "units")
    scale = 0.5 + torch.rand(300, generator=generator, dtype=torch.float64)
    scale *= torch.randn(300, generator=generator).sign()
    masks = torch.rand(300, 3, generator=generator) < 0.5
    clean = scale[:, None] * ((masks * LEVELS) @ features)
    size = noise * float(clean.square().mean().sqrt())
    return features, scale, masks, clean + size * noise_like(clean), size


def test_masks_are_found_under_noise_where_the_cone_is_poor():
    features, scale, masks, gradient, size = two_class_gradient(1.0)
    space = row_space(gradient, 3)
    cones = [extreme_rays(space.basis, tolerance, stream(0, "cone")) for tolerance in LADDER[:6]]
    poor = min(nearest(rays @ space.basis, features)[0] for rays in cones if rays is not None)
    _, summands = summands_of(seen_scores(gradient, 3, None), scale, stream(0, "starts"))
    found = seen_mixture(gradient, scale, summands)
    error, places = nearest(found.features, features)
    assert sorted(places.tolist()) == [0, 1, 2]
    assert error < 0.8 * poor
    assert ((found.mixing[:, places] != 0) == masks).float().mean() > 0.99
    fires = scale[:, None] * masks * LEVELS
    errors = torch.linalg.inv(fires.T @ fires / size**2).diagonal()
    torch.testing.assert_close(1 / found.precision[places, 0], errors, rtol=0.15, atol=0.0)


def test_features_within_a_known_space_are_found_under_much_more_noise():
    features, scale, masks, gradient, _ = two_class_gradient(8.0, 8000)
    space = torch.linalg.qr(torch.cat([features, noise_like(torch.empty(40, 8000).double(), "others")]).T).Q.T
    off = []
    for known in (None, FeatureSpace(space, torch.ones(len(space)))):
        chosen, summands = summands_of(seen_scores(gradient, 3, known), scale, stream(0, "starts"))
        error, places = nearest(summands_over_means(summands), features)
        off.append(error)
    assert off[1] < 0.1 < 0.5 < off[0]
    assert (chosen[:, places] == masks).double().mean() > 0.99


def summands_over_means(summands):
    return summands / summands.mean(dim=1, keepdim=True)


def test_a_gradient_whose_rows_are_mostly_hidden_is_still_unmixed():
    features, scale, _, gradient, _ = two_class_gradient(0.1)
    gradient[scale.abs() > 0.9 * scale.abs().median()] = 0.0
    found = seen_mixture(gradient, scale, LEVELS[:, None] * features)
    assert found.features.isfinite().all()
    assert found.mixing.isfinite().all()


def test_units_that_switched_do_not_disturb_the_fit():
    features, scale, masks, gradient, _ = two_class_gradient(0.1)
    start = features + 0.2 * features.mean() * noise_like(features, "start")
    strange = gradient.clone()
    strange[:20] = 5 * noise_like(gradient[:20], "strange")
    for steady in (None, (torch.arange(300) >= 20).double()):
        found = seen_mixture(strange, scale, LEVELS[:, None] * start, steady)
        assert nearest(found.features, features)[0] < 0.03
        assert ((found.mixing[20:] != 0) == masks[20:]).all()


@pytest.mark.parametrize("protocol", [FedSGD(), FEW_STEPS], ids=["fedsgd", "fedavg"])
@pytest.mark.parametrize(("classes", "count"), [(3, 3), (2, 4)])
def test_a_batch_is_solved_for_without_its_labels(phantom_films, classes, count, protocol):
    films = Batch(phantom_films[:count], torch.arange(count) % classes)
    found = Unmixing()(observe(lenet(classes), films, protocol, knows_labels=False), stream(0), ignore)
    order = match(found.images, films.images)
    errors = (found.images[order] - films.images).square().flatten(1).mean(dim=1)
    assert (-10 * errors.log10() > 40).all(), errors
    assert found.targets[order].tolist() == films.targets.tolist()
    assert found.flags == (() if protocol == FedSGD() else ("approximate",))


def noisy(films, snr, **threat):
    channel = Chain(stages=(GaussianNoise(snr=snr),))
    return observe(lenet(2), films, FEW_STEPS, channel, **{"knows_labels": False, **threat})


def test_under_noise_each_image_is_nearer_to_its_film_than_to_any_other(phantom_films):
    films = Batch(phantom_films[:4], torch.arange(4) % 2)
    found = Unmixing()(noisy(films, 100.0), stream(0), ignore)
    order = match(found.images, films.images)
    distances = torch.cdist(found.images[order].flatten(1), phantom_films.flatten(1))
    assert distances.argmin(dim=1).tolist() == [0, 1, 2, 3]
    assert found.targets[order].tolist() == films.targets.tolist()


def test_a_prior_from_other_films_helps_under_noise(phantom_films, tmp_path):
    public = torch.from_numpy(phantom(image_size=SIDE, patients=60).read(list(range(12, 60))))
    save_prior(fit_eigen(public[:, :1], 12), tmp_path / "prior.npz", ["somebody else"])
    films = Batch(phantom_films[:3], torch.arange(3) % 2)
    errors = []
    for prior in (None, tmp_path / "prior.npz"):
        found = Unmixing(steps=60, refits=1, prior=prior)(noisy(films, 0.5), stream(0), ignore)
        errors.append(float((found.images[match(found.images, films.images)] - films.images).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_knowing_the_channel_helps_where_it_hides_values(phantom_films, tmp_path):
    public = torch.from_numpy(phantom(image_size=SIDE, patients=60).read(list(range(12, 60))))
    save_prior(fit_eigen(public[:, :1], 40), tmp_path / "prior.npz", ["somebody else"])
    films = Batch(phantom_films[:3], torch.arange(3) % 2)
    seen = observe(lenet(2), films, FEW_STEPS, Chain(stages=(TopK(sparsity=0.9),)), knows_labels=False)
    errors = []
    for steps in (0, 8):
        attack = Unmixing(steps=60, refits=1, prior=tmp_path / "prior.npz", channel_steps=steps)
        found = attack(seen, stream(0), ignore)
        errors.append(float((found.images[match(found.images, films.images)] - films.images).square().mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("defence", [TopK(sparsity=0.95), SignSGD()], ids=["top_k", "signs"])
def test_one_film_alone_is_told_from_the_mean_film_behind_a_channel_that_hides_values(phantom_films, tmp_path, defence):
    public = torch.from_numpy(phantom(image_size=SIDE, patients=60).read(list(range(12, 60))))[:, :1]
    save_prior(fit_eigen(public, 40), tmp_path / "prior.npz", ["somebody else"])
    films = Batch(phantom_films[:1], torch.tensor([1]))
    seen = observe(lenet(2), films, FEW_STEPS, Chain(stages=(defence,)), knows_labels=False)
    found = Unmixing(steps=60, refits=1, prior=tmp_path / "prior.npz")(seen, stream(0), ignore)
    off = [float((guess - films.images).square().mean()) for guess in (found.images, public.mean(dim=0, keepdim=True))]
    assert off[0] < 0.8 * off[1]


def test_signs_alone_are_attacked_without_an_error(phantom_films, tmp_path):
    public = torch.from_numpy(phantom(image_size=SIDE, patients=60).read(list(range(12, 60))))
    save_prior(fit_eigen(public[:, :1], 12), tmp_path / "prior.npz", ["somebody else"])
    films = Batch(phantom_films[:2], torch.arange(2) % 2)
    seen = observe(lenet(2), films, FEW_STEPS, Chain(stages=(SignSGD(),)), knows_labels=False)
    found = Unmixing(steps=10, refits=1, prior=tmp_path / "prior.npz", channel_steps=2)(seen, stream(0), ignore)
    assert found.images.isfinite().all()


def test_a_mixture_without_a_film_is_not_sound():
    whole = Mixture(torch.ones(3, 2), torch.ones(2, 4))
    assert whole.is_sound()
    assert not replace(whole, features=torch.zeros(2, 4)).is_sound()
    assert not replace(whole, mixing=torch.full((3, 2), torch.nan)).is_sound()


def network(*layers):
    with global_stream(0, "weights"):
        model = nn.Sequential(*(layer() for layer in layers))
    return task_of(model, (1, SIDE, SIDE))


def test_films_that_the_layer_sees_are_solved_for_without_a_search():
    task = network(nn.Flatten, lambda: nn.Linear(SIDE**2, 64, bias=False), nn.ReLU, lambda: nn.Linear(64, 2))
    films = sparse_features(3, 0.5, SIDE**2).float().reshape(3, 1, SIDE, SIDE)
    private = Batch(films / films.max(), torch.tensor([0, 1, 0]))
    found = Unmixing()(observe(task, private, knows_labels=False), stream(0), ignore)
    order = match(found.images, private.images)
    torch.testing.assert_close(found.images[order], private.images, rtol=0, atol=1e-3)
    assert found.targets[order].tolist() == [0, 1, 0]
    assert found.objective == ()


def test_inputs_that_are_not_nonnegative_are_flagged(phantom_films):
    def signed():
        return nn.Conv2d(1, 4, 3, padding=1, bias=False)

    task = network(signed, nn.Tanh, nn.Flatten, lambda: nn.Linear(4 * SIDE**2, 64), nn.ReLU, lambda: nn.Linear(64, 2))
    films = Batch(phantom_films[:3] - phantom_films[:3].mean(), torch.tensor([0, 1, 0]))
    found = Unmixing(steps=2)(observe(task, films), stream(0), ignore)
    assert found.flags == ("partial",)
    assert found.targets is None
    assert found.images.shape == films.images.shape


def test_what_the_attack_needs_is_asked_for(phantom_films, tmp_path):
    films = Batch(phantom_films[:2], torch.tensor([0, 1]))
    with pytest.raises(MissingKnowledge, match="knows_protocol"):
        Unmixing()(observe(lenet(2), films, knows_protocol=False), stream(0), ignore)
    with pytest.raises(MissingKnowledge, match="public_data"):
        Unmixing(prior=tmp_path / "prior.npz")(observe(lenet(2), films, public_data=False), stream(0), ignore)


def test_a_model_without_a_trained_dense_layer_is_refused_before_anything_runs():
    task = network(lambda: nn.Conv2d(1, 2, SIDE), nn.Flatten)
    with pytest.raises(BadSetting, match="trained dense layer"):
        Unmixing().check(task)


def test_behind_a_deep_network_inputs_that_are_not_taken_as_exact_leave_the_prior_a_say(tmp_path):
    films = torch.from_numpy(phantom(image_size=32, patients=60).read(list(range(60))))[:, :1]
    save_prior(fit_eigen(films[10:], 40), tmp_path / "prior.npz", ["somebody else"])
    load_rooms()
    task = build("task", {"use": "small_cnn", "num_classes": 2}, (1, 32, 32), 0)
    seen = observe(task, Batch(films[:1], torch.tensor([1])), knows_labels=False)
    errors = {}
    for tolerance in (0.0, 0.1):
        attack = Unmixing(prior=tmp_path / "prior.npz", steps=100, tolerance=tolerance)
        errors[tolerance] = float((attack(seen, stream(0, "attack"), ignore).images - films[:1]).square().mean())
    assert errors[0.1] < 0.3 * errors[0.0]


@pytest.mark.parametrize("rows", [2, 6])
def test_fewer_directions_than_films_are_no_mixture(rows):
    """A two-class head has one direction, whatever the batch; without this a division by nothing came out."""
    row = torch.rand(1, 20, generator=stream(0))
    signs = torch.tensor([[1.0, -1.0] * (rows // 2)]).T
    assert unmix(signs * row, 4, stream(0, "cone")) is None
