"""Every defence by its properties: how it acts, and what it does to a belief."""

from itertools import permutations
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiograph.core.defence import Chain, Defence
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.registry import build, components
from gradiograph.core.tensors import Belief, global_norm
from gradiograph.defences import QSGD, Clip, GaussianNoise, LaplaceNoise, RandomK, SignSGD, TopK, UniformQuantisation
from gradiograph.defences.distributed_noise import DistributedNoise
from gradiograph.defences.dp_fedavg import DPFedAvg
from gradiograph.defences.dp_sgd import DPSGD
from gradiograph.defences.local_dp import LocalDP
from gradiograph.defences.sparsity import num_kept

ALL: dict[str, Defence] = {
    "clip": Clip(norm=1.0),
    "clip, loose": Clip(norm=1e6),
    "gaussian std": GaussianNoise(std=0.3),
    "gaussian multiplier": GaussianNoise(noise_multiplier=0.5, clip_norm=2.0),
    "gaussian snr": GaussianNoise(snr=4.0),
    "gaussian zero": GaussianNoise(std=0.0),
    "laplace std": LaplaceNoise(std=0.3),
    "laplace scale": LaplaceNoise(scale=0.2),
    "laplace snr": LaplaceNoise(snr=4.0),
    "uniform 3": UniformQuantisation(bits=3),
    "uniform 8": UniformQuantisation(bits=8),
    "qsgd": QSGD(levels=4),
    "qsgd bucket": QSGD(levels=2, bucket=5),
    "qsgd max": QSGD(levels=4, norm="max"),
    "top_k": TopK(sparsity=0.6),
    "top_k update": TopK(sparsity=0.6, scope="update"),
    "random_k": RandomK(sparsity=0.5),
    "random_k plain": RandomK(sparsity=0.5, rescale=False),
    "sign": SignSGD(),
    "sign zero": SignSGD(zero=0),
    "sign scaled": SignSGD(scale="mean_abs"),
    "dp_fedavg": DPFedAvg(clip_norm=0.5, noise_multiplier=0.3),
    "distributed_noise": DistributedNoise(clip_norm=0.5, noise_multiplier=0.3, clients=4),
    "local_dp": LocalDP(clip_norm=0.5, noise_multiplier=0.3),
    "dp_sgd": DPSGD(clip_norm=0.5, noise_multiplier=0.3),
}
NAMES = ("clip", "gaussian std", "laplace snr", "uniform 3", "qsgd", "top_k", "random_k", "sign")
ONE_OF_EACH = [ALL[name] for name in NAMES]
DETERMINISTIC = [
    n for n, d in ALL.items() if isinstance(d, Clip | UniformQuantisation | TopK | SignSGD | DPFedAvg | DPSGD)
]
each = pytest.mark.parametrize("defence", ALL.values(), ids=ALL.keys())
values = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=30)


def update(seed: int = 0, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = stream(seed, "update")
    shapes = {"conv": (3, 2, 2), "weight": (4, 5), "bias": (4,), "scalar": ()}
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def draws(defence: Defence, tensors: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    sent = [defence.on_update(tensors, stream(i, "draws")) for i in range(number)]
    return {name: torch.stack([one[name] for one in sent]) for name in tensors}


def belief_with(variance: float | None, tensors: dict[str, torch.Tensor]) -> Belief:
    spread = None if variance is None else {n: torch.full_like(t, variance) for n, t in tensors.items()}
    return Belief({n: t.clone().requires_grad_() for n, t in tensors.items()}, spread)


def assert_finite_with_gradient(defence: Defence, seen: dict[str, torch.Tensor], belief: Belief) -> None:
    score = defence.log_likelihood(seen, belief)
    assert score.shape == ()
    assert score.isfinite()
    gradients = torch.autograd.grad(score, list(belief.mean.values()), allow_unused=True, materialize_grads=True)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_every_component_of_the_room_is_tested():
    assert {c.build for c in components("defence")} == {type(defence) for defence in ALL.values()}
    assert all(component.paper for component in components("defence"))


@each
def test_sends_the_same_names_shapes_and_dtype_and_changes_nothing(defence):
    for dtype in (torch.float32, torch.float64):
        before = {name: tensor.to(dtype) for name, tensor in update().items()}
        kept = {name: tensor.clone() for name, tensor in before.items()}
        sent = defence.on_update(before, stream(1, "x"))
        assert list(sent) == list(before)
        for name, tensor in sent.items():
            assert tensor.shape == before[name].shape
            assert tensor.dtype == dtype
            assert torch.equal(before[name], kept[name])


@each
def test_is_determined_by_its_generator(defence):
    first, again, other = (defence.on_update(update(), stream(seed, "x")) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    random = defence not in [ALL[name] for name in (*DETERMINISTIC, "gaussian zero")]
    assert random != all(torch.equal(first[name], other[name]) for name in first)


@each
@pytest.mark.parametrize("variance", [None, 0.0, 0.1])
def test_an_update_of_zeros_gives_no_nan(defence, variance):
    zeros = {name: torch.zeros_like(tensor) for name, tensor in update().items()}
    mixed = {**update(), "weight": zeros["weight"]}
    for tensors in (zeros, mixed):
        seen = defence.on_update(tensors, stream(0, "x"))
        assert all(tensor.isfinite().all() for tensor in seen.values())
        for candidate in (zeros, mixed):
            assert_finite_with_gradient(defence, seen, belief_with(variance, candidate))


@pytest.mark.parametrize("pair", list(permutations(range(len(ONE_OF_EACH)), 2)))
def test_chains_in_any_order_give_finite_scores_and_gradients(pair):
    middle = ONE_OF_EACH[(sum(pair) * 3) % len(ONE_OF_EACH)]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in update().items()}
    for stages in ((ONE_OF_EACH[pair[0]], ONE_OF_EACH[pair[1]]), (ONE_OF_EACH[pair[0]], middle, ONE_OF_EACH[pair[1]])):
        chain = Chain(stages=stages)
        for tensors in (update(), zeros):
            seen = chain.on_update(tensors, stream(0, "x"))
            assert_finite_with_gradient(chain, seen, belief_with(None, update(1)))
            assert_finite_with_gradient(chain, seen, belief_with(None, zeros))


@pytest.mark.parametrize(
    ("use", "config"),
    [
        ("clip", {}),
        ("clip", {"norm": 0}),
        ("gaussian_noise", {}),
        ("gaussian_noise", {"std": -1}),
        ("gaussian_noise", {"std": 1, "snr": 1}),
        ("gaussian_noise", {"noise_multiplier": 1}),
        ("gaussian_noise", {"clip_norm": 1}),
        ("gaussian_noise", {"std": 1, "clip_norm": 1}),
        ("gaussian_noise", {"snr": 0}),
        ("laplace_noise", {"std": 1, "scale": 1}),
        ("laplace_noise", {}),
        ("uniform_quantisation", {"bits": 1}),
        ("qsgd", {"levels": 0}),
        ("qsgd", {"levels": 4, "norm": "l1"}),
        ("qsgd", {"levels": 4, "bucket": 0}),
        ("top_k", {"sparsity": 1.0}),
        ("top_k", {"sparsity": 0.5, "scope": "layer"}),
        ("random_k", {"sparsity": -0.1}),
        ("sign_sgd", {"zero": 2}),
    ],
)
def test_impossible_settings_are_refused(use, config):
    with pytest.raises(BadSetting, match=use):
        build("defence", {"use": use, **config})


def test_settings_build_through_the_registry():
    assert build("defence", {"use": "qsgd", "levels": 16, "bucket": 512}) == QSGD(levels=16, bucket=512)
    assert build("defence", {"use": "sign_sgd", "zero": 0}) == SignSGD(zero=0)
    assert build("defence", {"use": "gaussian_noise", "snr": 10}) == GaussianNoise(snr=10)


# Identity at strength zero


@pytest.mark.parametrize(
    "defence",
    [
        Clip(norm=1e6),
        GaussianNoise(std=0),
        GaussianNoise(noise_multiplier=0, clip_norm=1),
        LaplaceNoise(std=0),
        LaplaceNoise(scale=0),
        TopK(sparsity=0),
        TopK(sparsity=0, scope="update"),
        RandomK(sparsity=0),
        RandomK(sparsity=0, rescale=False),
    ],
)
@pytest.mark.parametrize("variance", [None, 0.1])
def test_strength_zero_is_the_identity(defence, variance):
    sent = defence.on_update(update(), stream(0, "x"))
    belief = belief_with(variance, update())
    expected = defence.expect(belief)
    for name, tensor in update().items():
        assert torch.equal(sent[name], tensor)
        assert torch.equal(expected.mean[name], tensor)
        if variance is None:
            assert expected.variance is None
        else:
            assert torch.equal(expected.variance[name], belief.variance[name])


# Clipping


@given(values, values, st.floats(1e-3, 1e3))
def test_clip_bounds_the_norm_and_keeps_the_direction(a, b, norm):
    tensors = {"a": torch.tensor(a), "b": torch.tensor(b)}
    sent = Clip(norm=norm).on_update(tensors, stream(0, "x"))
    before, after = global_norm(tensors), global_norm(sent)
    assert after <= norm * (1 + 1e-5)
    if before <= norm:
        assert all(torch.equal(sent[name], tensors[name]) for name in tensors)
    else:
        assert after == pytest.approx(norm, rel=1e-5)
        assert torch.allclose(sent["a"] * before, tensors["a"] * norm, rtol=1e-4, atol=1e-6 * float(before) * norm)


# Noise


@pytest.mark.parametrize(
    ("defence", "std"),
    [
        (GaussianNoise(std=0.3), 0.3),
        (GaussianNoise(noise_multiplier=1.5, clip_norm=0.2), 0.3),
        (GaussianNoise(snr=25.0), 0.4),
        (LaplaceNoise(std=0.3), 0.3),
        (LaplaceNoise(scale=0.3), 0.3 * 2**0.5),
        (LaplaceNoise(snr=25.0), 0.4),
    ],
)
def test_noise_has_the_strength_stated(defence, std):
    constant = {"a": torch.full((100, 200), 2.0), "b": torch.full((20_000,), -2.0)}  # mean square 4
    sent = defence.on_update(constant, stream(0, "x"))
    noise = torch.cat([(sent[n] - constant[n]).flatten() for n in constant])
    shape = 2 / torch.pi if isinstance(defence, GaussianNoise) else 0.5  # E|x|^2 / E x^2
    assert noise.std().item() == pytest.approx(std, rel=0.03)
    assert (noise.abs().mean() ** 2 / noise.var()).item() == pytest.approx(shape, rel=0.03)
    assert abs(noise.mean().item()) < 5 * std / 200
    assert abs(torch.corrcoef(noise.view(2, -1))[0, 1].item()) < 5 / 20_000**0.5


def test_laplace_noise_follows_its_distribution():
    noise = LaplaceNoise(scale=1.0).on_update({"w": torch.zeros(40_000)}, stream(3, "x"))["w"]
    for quantile in (0.001, 0.1, 0.5, 0.9, 0.999):
        size = -torch.tensor(1 - abs(2 * quantile - 1)).log()
        point = size if quantile > 0.5 else -size
        error = 5 * (quantile * (1 - quantile) / 40_000) ** 0.5
        assert (noise <= point).float().mean().item() == pytest.approx(quantile, abs=error)


# Unbiasedness


@pytest.mark.parametrize(
    "name",
    ["gaussian std", "gaussian snr", "laplace scale", "laplace snr", "qsgd", "qsgd bucket", "qsgd max", "random_k"],
)
def test_is_unbiased(name):
    number, truth = 600, update(3)
    sent = draws(ALL[name], truth, number)
    for parameter, sample in sent.items():
        error = (sample.mean(0) - truth[parameter]).abs()
        assert (error <= 5 * sample.std(0) / number**0.5 + 1e-5).all(), parameter


def test_random_k_without_rescaling_shrinks_by_the_share_kept():
    sent = RandomK(sparsity=0.75, rescale=False).on_update({"w": torch.ones(1000)}, stream(0, "x"))["w"]
    assert sent.sum() == 250


# Quantisation


@given(values, st.integers(2, 16))
def test_uniform_quantisation_is_nearest_and_idempotent(a, bits):
    tensor = torch.tensor(a)
    defence, levels = UniformQuantisation(bits=bits), 2 ** (bits - 1) - 1
    sent = defence.on_update({"w": tensor}, stream(0, "x"))["w"]
    step = tensor.abs().max() / levels
    assert ((sent - tensor).abs() <= step / 2 + 1e-6 * tensor.abs().max()).all()
    assert sent.abs().max() == pytest.approx(tensor.abs().max().item(), rel=1e-5)
    assert len(sent.unique()) <= 2 * levels + 1
    assert torch.allclose(defence.on_update({"w": sent}, stream(0, "x"))["w"], sent, rtol=1e-5)


@given(values, st.sampled_from([1, 3, 4, 16]), st.sampled_from(["l2", "max"]), st.integers(0, 99))
def test_qsgd_rounds_to_a_neighbouring_level_and_keeps_the_sign(a, levels, norm, seed):
    tensor = torch.tensor(a)
    sent = QSGD(levels=levels, norm=norm).on_update({"w": tensor}, stream(seed, "x"))["w"]
    size = tensor.norm() if norm == "l2" else tensor.abs().max()
    if size == 0:
        assert not sent.any()
        return
    position = sent * levels / size
    assert torch.allclose(position, position.round(), atol=1e-3)
    assert ((position - tensor * levels / size).abs() < 1 + 1e-3).all()
    assert (sent * tensor >= 0).all()
    assert (sent.abs() <= size * (1 + 1e-5)).all()


def test_qsgd_buckets_do_not_see_each_other():
    tensor = torch.cat([torch.full((4,), 100.0), torch.full((3,), 0.01)])
    sent = QSGD(levels=1, bucket=4).on_update({"w": tensor}, stream(0, "x"))["w"]
    assert set(sent[:4].tolist()) <= {0.0, 200.0}
    assert sent[4:].abs().max() < 0.02


# Sparsification


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.99]),
    st.sampled_from(["tensor", "update"]),
)
def test_top_k_keeps_exactly_k_of_the_largest_under_ties(a, sparsity, scope):
    tensor = torch.tensor(a, dtype=torch.float32) + 0.5  # no zeros, many ties
    sent = TopK(sparsity=sparsity, scope=scope).on_update({"w": tensor}, stream(0, "x"))["w"]
    kept = sent != 0
    assert int(kept.sum()) == max(1, ceil(round((1 - sparsity) * len(a), 9)))
    assert torch.equal(sent[kept], tensor[kept])
    if not kept.all():
        assert tensor[kept].abs().min() >= tensor[~kept].abs().max()


def test_the_number_kept_follows_the_decimal_not_its_binary_rounding():
    # In floating point (1 - 0.95) * 100 is 5.0000000000000044, whose ceiling is 6.
    assert [num_kept(s, 100) for s in (0.95, 0.9, 0.999, 0.0)] == [5, 10, 1, 100]
    assert num_kept(0.9, 33_000_000) == 3_300_000


def test_top_k_over_the_update_compares_tensors_with_each_other():
    tensors = {"large": torch.tensor([5.0, 6.0]), "small": torch.tensor([0.1, 0.2])}
    whole = TopK(sparsity=0.5, scope="update").on_update(tensors, stream(0, "x"))
    single = TopK(sparsity=0.5).on_update(tensors, stream(0, "x"))
    assert [whole[n].tolist() for n in tensors] == [[5.0, 6.0], [0.0, 0.0]]
    assert [round(float(single[n][1]), 3) for n in tensors] == [6.0, 0.2]
    assert single["large"][0] == single["small"][0] == 0


@given(st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.9]), st.booleans())
def test_random_k_sends_exactly_k_scaled_values(n, sparsity, rescale):
    tensor = torch.arange(1.0, n + 1)
    sent = RandomK(sparsity=sparsity, rescale=rescale).on_update({"w": tensor}, stream(n, "x"))["w"]
    kept, k = sent != 0, num_kept(sparsity, n)
    assert int(kept.sum()) == k
    assert torch.allclose(sent[kept], tensor[kept] * (n / k if rescale else 1.0))


# Signs


@pytest.mark.parametrize("zero", [1, 0, -1])
def test_sign_states_its_convention_at_zero(zero):
    tensor = {"w": torch.tensor([2.0, -4.0, 0.0])}
    assert SignSGD(zero=zero).on_update(tensor, stream(0, "x"))["w"].tolist() == [1, -1, zero]
    scaled = SignSGD(zero=zero, scale="mean_abs").on_update(tensor, stream(0, "x"))["w"].tolist()
    assert scaled == [2, -2, 2 * zero]


# What a channel does to a belief


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_deterministic_channel_is_exact_forward_and_has_a_gradient(name):
    belief = belief_with(None, update())
    expected, sent = ALL[name].expect(belief), ALL[name].on_update(update(), stream(0, "x"))
    assert expected.variance is None
    assert all(torch.equal(expected.mean[n], sent[n]) for n in sent)
    total = sum((expected.mean[n] * (i + 1)).sum() for i, n in enumerate(sent))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(total, list(belief.mean.values())))


MOMENTS = {  # how far mean and variance may be off, as a share of the output's standard deviation and variance
    "clip": 0.06,  # the norm is not constant over so few values
    "gaussian std": 0.0,
    "gaussian multiplier": 0.0,
    "gaussian snr": 0.02,
    "laplace std": 0.0,
    "laplace snr": 0.02,
    "uniform 3": 0.12,  # the maximum varies
    "uniform 8": 0.03,
    "qsgd": 0.03,
    "qsgd bucket": 0.2,  # buckets of five: the norm varies with the values
    "qsgd max": 0.1,
    "top_k": 0.35,  # the threshold varies
    "top_k update": 0.25,
    "random_k": 0.0,
    "random_k plain": 0.0,
    "sign": 0.0,
    "sign zero": 0.0,
    "sign scaled": 0.1,
}


CASES = [(name, std) for name in MOMENTS for std in (0.0, 0.3) if std or name not in DETERMINISTIC]


@pytest.mark.parametrize(("name", "std"), CASES)
def test_expect_agrees_with_monte_carlo(name, std):
    number, defence = 1000, ALL[name]
    truth = {"w": torch.linspace(-1.5, 1.6, 40)}
    source = GaussianNoise(std=std)
    sample = draws(Chain(stages=(source, defence)), truth, number)["w"]
    expected = defence.expect(source.expect(Belief(truth)))
    allowed = MOMENTS[name] if std else 0.0
    spread = sample.std(0).maximum(expected.variance["w"].sqrt())  # what is rare may not have been drawn
    bound = 5 * spread / number**0.5 + allowed * spread.clamp_min(0.05) + 1e-4
    assert ((sample.mean(0) - expected.mean["w"]).abs() <= bound).all()
    fourth = (sample - sample.mean(0)).pow(4).mean(0)
    error = 5 * ((fourth - spread**4).clamp_min(0) / number).sqrt()
    bound = error + 2 * allowed * spread.square().clamp_min(0.01) + 10 * spread.square() / number + 5e-3
    assert ((sample.var(0) - expected.variance["w"]).abs() <= bound).all()


@settings(max_examples=25)
@given(st.permutations(ONE_OF_EACH), st.integers(1, 4), st.integers(0, 9))
def test_any_stack_keeps_shapes_and_gives_a_valid_belief(order, length, seed):
    chain = Chain(stages=tuple(order[:length]))
    sent = chain.on_update(update(seed), stream(seed, "x"))
    belief = chain.expect(Belief(update(seed)))
    for name, tensor in update(seed).items():
        assert sent[name].shape == belief.mean[name].shape == tensor.shape
        assert belief.mean[name].isfinite().all()
        if belief.variance is not None:
            assert (belief.variance[name] >= 0).all()
            assert belief.variance[name].isfinite().all()
