import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lpips as package

from gradiograph.core.errors import BadInput, WeightsProblem
from gradiograph.core.random import global_stream, stream
from gradiograph.core.registry import build
from gradiograph.core.scoring import ScoringContext
from gradiograph.metrics import lpips_available
from gradiograph.metrics.lpips import LpipsFeatures, load_lpips, lpips_distance
from gradiograph.metrics.lpips_weights import FILES, FOLDER_VARIABLE, backbone_state, head_weights

WEIGHTS = Path(__file__).parents[2] / "shared" / "weights" / "lpips"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="the shared LPIPS weights are not on this machine")
NETWORKS = ["alex", "squeeze"]


@pytest.fixture(autouse=True)
def _no_weights_elsewhere(monkeypatch, tmp_path):
    """Neither the environment nor torchvision's cache offers weights, and a download fails at once."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)


def packaged(network, seed=0):
    """The package's LPIPS with a random backbone, and the backbone's state by torchvision's names."""
    with warnings.catch_warnings(), global_stream(seed, "backbone"):
        warnings.simplefilter("ignore")
        theirs = package.LPIPS(net=network, pnet_rand=True, verbose=False)
    state = {
        name.split(".", 2)[2]: value for name, value in theirs.state_dict().items() if name.startswith("net.slice")
    }
    return theirs, state


def photographs(count, channels, height, width, seed=0):
    return torch.rand(count, channels, height, width, generator=stream(seed, "photographs"))


def context(folders):
    empty = torch.zeros(0, 3, 64, 64)
    return ScoringContext(
        gallery=empty,
        gallery_labels=torch.zeros(0, dtype=torch.int64),
        gallery_patients=(),
        mean_film=torch.zeros(3, 64, 64),
        network_folders=folders,
    )


def scored(guess, truth, folders, network="alex"):
    labels = torch.zeros(len(truth), dtype=torch.int64)
    (score,) = build("metric", {"use": "lpips", "network": network})(guess, truth, labels, context(folders))
    return score


@pytest.mark.parametrize("network", NETWORKS)
def test_agrees_with_the_package_on_any_backbone(network):
    theirs, state = packaged(network)
    ours = LpipsFeatures(network, state, head_weights(network))
    for shape in [(2, 3, 64, 64), (2, 3, 45, 70), (1, 3, 32, 32)]:
        x, y = photographs(*shape), photographs(*shape, seed=1)
        with torch.no_grad():
            expected = theirs(x, y, normalize=True).flatten()
        torch.testing.assert_close(lpips_distance(ours(x), ours(y)), expected, rtol=1e-5, atol=1e-7)


def test_grey_is_three_equal_channels_and_inputs_are_left_alone():
    ours = LpipsFeatures("alex", packaged("alex")[1], head_weights("alex"))
    grey = photographs(2, 1, 40, 40)
    copy = grey.clone()
    torch.testing.assert_close(ours(grey), ours(grey.repeat(1, 3, 1, 1)))
    assert torch.equal(grey, copy)


def test_building_draws_no_random_numbers():
    state = packaged("squeeze")[1]
    with global_stream(0, "check"):
        before = torch.random.get_rng_state()
        LpipsFeatures("squeeze", state, head_weights("squeeze"))
        assert torch.equal(before, torch.random.get_rng_state())


@needs_weights
@pytest.mark.parametrize("network", NETWORKS)
def test_agrees_with_the_package_on_the_published_weights(network):
    folders = {"lpips": WEIGHTS}
    theirs, _ = packaged(network)
    state = backbone_state(network, folders)
    theirs.load_state_dict(
        {k: state[k.split(".", 2)[2]] if k.startswith("net.slice") else v for k, v in theirs.state_dict().items()}
    )
    x, y = photographs(2, 3, 64, 64), photographs(2, 3, 64, 64, seed=1)
    with torch.no_grad():
        expected = theirs(x, y, normalize=True).flatten()
    torch.testing.assert_close(scored(x, y, folders, network).values, expected, rtol=1e-5, atol=1e-7)


@needs_weights
@pytest.mark.paper
def test_the_authors_example_images():
    def image(name):
        pixels = np.asarray(Image.open(WEIGHTS / "check_images" / name).convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    reference = image("ex_ref.png").expand(2, -1, -1, -1)
    guesses = torch.cat([image("ex_p0.png"), image("ex_p1.png")])
    assert scored(guesses, reference, {"lpips": WEIGHTS}).values.tolist() == pytest.approx([0.722, 0.138], abs=5e-4)


@needs_weights
def test_the_heads_are_the_shared_ones():
    for network in NETWORKS:
        shared = torch.load(WEIGHTS / f"lin_v0.1_{network}.pth", map_location="cpu", weights_only=True)  # noqa: TID251
        for own, theirs in zip(head_weights(network), shared.values(), strict=True):
            assert torch.equal(own, theirs.flatten())


@needs_weights
@pytest.mark.parametrize("channels", [1, 3])
def test_direction_and_one_value_per_record(channels):
    truth = photographs(2, channels, 48, 48)
    near = (truth + 0.05 * torch.randn(truth.shape, generator=stream(0, "noise"))).clamp(0, 1)
    far = photographs(2, channels, 48, 48, seed=1).square()
    folders = {"lpips": WEIGHTS}
    itself, close, other = (scored(guess, truth, folders) for guess in (truth, near, far))
    assert not itself.larger_leaks_more
    assert itself.values.tolist() == [0, 0]
    assert (itself.values < close.values).all()
    assert (close.values < other.values).all()
    mixed = scored(torch.cat([near[:1], far[1:]]), truth, folders).values
    torch.testing.assert_close(mixed, torch.stack([close.values[0], other.values[1]]), rtol=1e-5, atol=1e-7)


@needs_weights
def test_the_environment_variable_and_the_cache_are_searched(monkeypatch, tmp_path):
    assert lpips_available("squeeze", {}) is not None
    cache = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    cache.parent.mkdir(parents=True)
    cache.write_bytes((WEIGHTS / FILES["squeeze"]).read_bytes())
    assert lpips_available("squeeze", {}) is None
    load_lpips("squeeze", {})
    assert lpips_available("alex", {}) is not None
    monkeypatch.setenv(FOLDER_VARIABLE, str(WEIGHTS))
    assert lpips_available("alex", {}) is None
    load_lpips("alex", {})


def test_weights_that_are_nowhere_are_refused_with_the_remedy(tmp_path):
    folders = {"lpips": tmp_path}
    reason = lpips_available("alex", folders)
    assert FILES["alex"] in reason
    assert str(tmp_path) not in reason
    with pytest.raises(WeightsProblem, match=FOLDER_VARIABLE) as caught:
        scored(photographs(1, 3, 64, 64), photographs(1, 3, 64, 64), folders)
    assert str(tmp_path) not in str(caught.value)


def test_weights_from_elsewhere_are_refused(tmp_path):
    state = {f"features.{name}": value for name, value in packaged("squeeze")[1].items()}
    torch.save(state, tmp_path / FILES["squeeze"])
    with pytest.raises(WeightsProblem, match="are not torchvision's ImageNet weights"):
        load_lpips("squeeze", {"lpips": tmp_path})
    del state["features.0.weight"]
    torch.save(state, tmp_path / FILES["squeeze"])
    with pytest.raises(WeightsProblem, match="do not fit"):
        load_lpips("squeeze", {"lpips": tmp_path})


@pytest.mark.parametrize("content", [b"", b"not a file of weights"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / FILES["alex"]).write_bytes(content)
    with pytest.raises(WeightsProblem, match="can't be read"):
        load_lpips("alex", {"lpips": tmp_path})


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / FILES["alex"])
    with pytest.raises(WeightsProblem, match="weights only"):
        load_lpips("alex", {"lpips": tmp_path})


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 3, 28, 28), (1, 2, 64, 64)])
def test_images_that_lpips_cannot_judge_are_refused(shape):
    ours = LpipsFeatures("squeeze", packaged("squeeze")[1], head_weights("squeeze"))
    with pytest.raises(BadInput, match="at least 32 x 32 pixels; got"):
        ours(photographs(*shape))


@needs_weights
def test_an_audit_may_hold_the_scores_of_both_networks():
    films = photographs(1, 1, 64, 64)
    names = [scored(films, films, {"lpips": WEIGHTS}, network).name for network in NETWORKS]
    assert names == ["lpips", "lpips_squeeze"]
