"""Every channel's likelihood against what happens: frequencies over many draws, and the way its gradient points."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from gradiograph.core.defence import Chain, Defence
from gradiograph.core.factored import FactoredTensors, OuterSum
from gradiograph.core.random import stream
from gradiograph.core.tensors import Belief
from gradiograph.defences import (
    QSGD,
    Clip,
    GaussianNoise,
    LaplaceNoise,
    RandomK,
    SignSGD,
    TopK,
    UniformQuantisation,
    summation,
)
from gradiograph.defences.densities import log_interval, log_normal, log_normal_laplace
from gradiograph.defences.qsgd import _recovered_norms
from gradiograph.defences.rounding import log_stochastic_level

SINGLE: dict[str, Defence] = {
    "clip": Clip(norm=1.0),
    "clip, loose": Clip(norm=100.0),
    "gaussian": GaussianNoise(std=0.3),
    "gaussian snr": GaussianNoise(snr=9.0),
    "gaussian zero": GaussianNoise(std=0.0),
    "laplace": LaplaceNoise(scale=0.2),
    "laplace snr": LaplaceNoise(snr=9.0),
    "uniform 2": UniformQuantisation(bits=2),
    "uniform 8": UniformQuantisation(bits=8),
    "qsgd": QSGD(levels=8),
    "qsgd max": QSGD(levels=8, norm="max", bucket=30),
    "top_k": TopK(sparsity=0.8),
    "top_k update": TopK(sparsity=0.8, scope="update"),
    "random_k": RandomK(sparsity=0.5),
    "sign": SignSGD(),
    "sign zero": SignSGD(zero=0),
    "sign scaled": SignSGD(scale="mean_abs"),
}
each = pytest.mark.parametrize("defence", SINGLE.values(), ids=SINGLE.keys())


def update(seed: int) -> dict[str, Tensor]:
    generator = stream(seed, "update")
    return {"weight": torch.randn(10, 12, generator=generator), "bias": 0.1 * torch.randn(20, generator=generator)}


def belief(tensors: dict[str, Tensor], variance: float | None = None) -> Belief:
    return Belief(tensors, None if variance is None else {n: torch.full_like(t, variance) for n, t in tensors.items()})


def single(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values)}


def draws(chain: Chain, tensors: dict[str, Tensor], number: int) -> list[Tensor]:
    return [chain.on_update(tensors, stream(i, "draws"))["w"] for i in range(number)]


def log_p(defence: Defence, seen: Tensor, tensors: dict[str, Tensor]) -> float:
    return defence.log_likelihood({"w": seen}, Belief(tensors)).item()


def frequency_error(number: int, probability: float) -> float:
    return 4.5 * (probability * (1 - probability) / number) ** 0.5 + 4 / number


def slice_density(defence: Defence, seen: Tensor, place: int, edges: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The probability of each bin of one value, the others as seen, up to a constant: by the midpoint rule."""
    middles = (edges[1:] + edges[:-1]) / 2
    scores = []
    for middle in middles:
        moved = seen.clone()
        moved[place] = middle
        scores.append(log_p(defence, moved, tensors))
    return torch.tensor(scores).exp() * (edges[1:] - edges[:-1])


# The truth is the best explanation, and the gradient leads to it


@each
@pytest.mark.parametrize("variance", [None, 0.05])
def test_the_truth_is_at_least_as_likely_as_another_update(defence, variance):
    chain = defence if variance is None else Chain(stages=(GaussianNoise(std=variance**0.5), defence))
    truth, total = update(0), {}
    others = {
        "another": update(1),
        "zero": {n: torch.zeros_like(t) for n, t in truth.items()},
        "near": {n: t + 0.3 * update(2)[n] for n, t in truth.items()},
    }
    for seed in range(10):  # a single draw of a random channel may be nearer to another
        seen = chain.on_update(truth, stream(seed, "seen"))
        for name, candidate in {"truth": truth, **others}.items():
            total[name] = total.get(name, 0.0) + chain.log_likelihood(seen, belief(candidate)).item()
    assert total["truth"] > total["another"]
    assert total["truth"] > total["near"]
    if defence not in (SignSGD(), SignSGD(zero=0)):  # without a scale, zero lies on the edge of every side
        assert total["truth"] > total["zero"]


@each
@pytest.mark.parametrize("variance", [None, 0.05])
def test_the_gradient_leads_from_a_wrong_mean_to_the_right_one(defence, variance):
    chain = defence if variance is None else Chain(stages=(GaussianNoise(std=variance**0.5), defence))
    truth = update(0)
    for seed in range(3):
        seen = chain.on_update(truth, stream(seed, "seen"))
        wrong = {n: t.clone().requires_grad_() for n, t in update(seed + 1).items()}
        gradients = torch.autograd.grad(chain.log_likelihood(seen, belief(wrong)), list(wrong.values()))
        ahead = sum((g * (truth[n] - wrong[n])).sum() for n, g in zip(wrong, gradients, strict=True))
        assert ahead > 0


@each
def test_the_score_of_a_chain_of_one_is_the_channel_s(defence):
    seen = defence.on_update(update(0), stream(0, "seen"))
    alone, chained = (d.log_likelihood(seen, belief(update(1))) for d in (defence, Chain(stages=(defence,))))
    assert torch.equal(alone, chained)


@pytest.mark.parametrize("first", [TopK(sparsity=0.8), UniformQuantisation(bits=3), SignSGD(), Clip(norm=1.0)])
def test_after_a_deterministic_stage_noise_is_scored_exactly(first):
    chain, truth = Chain(stages=(first, GaussianNoise(std=0.1))), update(0)
    seen = chain.on_update(truth, stream(0, "seen"))
    clean = first.on_update(truth, stream(0, "none"))
    exact = sum(torch.distributions.Normal(clean[n], 0.1).log_prob(seen[n]).sum() for n in seen)
    assert torch.allclose(chain.log_likelihood(seen, belief(truth)), exact, rtol=1e-5)


# Against Monte Carlo: discrete channels, all patterns of a small update


def assert_patterns(chain: Chain, truth: dict[str, Tensor], number: int, tolerance: float = 0.0) -> None:
    """The probability of every pattern that was seen often equals its frequency, within sampling error + tolerance."""
    seen = Counter(tuple(value.tolist()) for value in draws(chain, truth, number))
    predicted = {pattern: log_p(chain, torch.tensor(pattern), truth) for pattern in seen}
    for pattern, times in seen.most_common():
        if times < 10:
            break
        probability = float(torch.tensor(predicted[pattern]).exp())
        assert probability == pytest.approx(
            times / number, abs=frequency_error(number, max(probability, times / number)) + tolerance
        ), pattern


@pytest.mark.parametrize("zero", [1, 0])
def test_gaussian_noise_then_sign_is_a_probit(zero):
    chain = Chain(stages=(GaussianNoise(std=0.5), SignSGD(zero=zero)))
    assert_patterns(chain, single(0.3, -0.7, 0.05), 2000)


def test_laplace_noise_then_sign_is_close_to_a_probit():
    # The belief after Laplace noise is the Gaussian of its moments: at most 0.06 off in one value's side.
    assert_patterns(Chain(stages=(LaplaceNoise(std=0.5), SignSGD())), single(0.3, -0.7), 2000, tolerance=0.07)


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize("levels", [2, 5])
def test_qsgd_gives_the_probability_of_each_level(norm, levels):
    truth = single(0.9, -0.6, 0.5, 0.7)  # level 1 or two different levels nearly always occur, so the norm is known
    assert_patterns(Chain(stages=(QSGD(levels=levels, norm=norm),)), truth, 2000, tolerance=3e-3)


def assert_levels(chain: Chain, levels: int, truth: dict[str, Tensor], number: int, tolerance: float) -> None:
    """As `assert_patterns`, in levels of the maximum: the first value is so large that the maximum hardly varies."""
    sent = torch.stack(draws(chain, truth, number))
    maximum = truth["w"][0]
    patterns = (sent * levels / sent.abs().amax(dim=1, keepdim=True)).round()
    counted = Counter(map(tuple, patterns.tolist()))
    scores = torch.tensor([log_p(chain, torch.tensor(p) * maximum / levels, truth) for p in counted])
    for probability, times in zip(scores.softmax(0).tolist(), counted.values(), strict=True):
        share = times / number
        assert probability == pytest.approx(share, abs=frequency_error(number, max(share, probability)) + tolerance)


# Laplace noise reaches these by its mean and variance only: the second tolerance is the price.


@pytest.mark.parametrize(("noise", "tolerance"), [(GaussianNoise(std=3.0), 0.005), (LaplaceNoise(std=3.0), 0.03)])
def test_noise_then_qsgd(noise, tolerance):
    chain = Chain(stages=(noise, QSGD(levels=50, norm="max")))
    assert_levels(chain, 50, single(500.0, 7.0, -1.0), 2000, tolerance)


@pytest.mark.parametrize(("noise", "tolerance"), [(GaussianNoise(std=0.4), 0.01), (LaplaceNoise(std=0.4), 0.1)])
def test_noise_then_uniform_quantisation(noise, tolerance):
    chain = Chain(stages=(noise, UniformQuantisation(bits=5)))
    assert_levels(chain, 15, single(30.0, 0.4, -1.1), 2000, tolerance)


# Against Monte Carlo: densities


def assert_density(chain: Chain, truth: float, number: int, tolerance: float = 0.0) -> None:
    """The density of one value equals the histogram of many: each of their bins within sampling error + tolerance."""
    copies = {"w": torch.full((number,), truth)}
    sample = chain.on_update(copies, stream(0, "copies"))["w"]
    edges = torch.linspace(float(sample.quantile(0.001)), float(sample.quantile(0.999)), 120)
    predicted = slice_density(chain, torch.zeros(1), 0, edges, single(truth)).view(-1)
    predicted = torch.stack([part.sum() for part in predicted.split(7)])
    edges = torch.cat([edges[:-1:7], edges[-1:]])
    found = torch.histogram(sample, edges).hist / number
    for p, f in zip(predicted.tolist(), found.tolist(), strict=True):
        assert p == pytest.approx(f, abs=frequency_error(number, p) + tolerance)


@pytest.mark.parametrize(
    "stages",
    [
        (GaussianNoise(std=0.4),),
        (LaplaceNoise(scale=0.4),),
        (GaussianNoise(std=0.3), GaussianNoise(std=0.4)),
        (GaussianNoise(std=0.5), LaplaceNoise(scale=0.4)),
        (GaussianNoise(std=0.1), LaplaceNoise(scale=0.8)),
    ],
)
def test_additive_noise_has_the_density_stated(stages):
    assert_density(Chain(stages=stages), 0.7, 20_000)


@pytest.mark.parametrize("power", [0.3, 50.0, 1e4])
def test_gaussian_noise_on_factors_is_scored_without_forming_them(power):
    """Of a strong update the squared error would be a small difference of large numbers: there the matrix is formed."""
    draws = stream(0, "factors")
    outer = OuterSum(*(torch.randn(3, width, generator=draws).requires_grad_() for width in (300, 400)))
    noise = GaussianNoise(std=float((outer.dense().detach().square().mean() / power).sqrt()))
    seen = noise.on_update({"w": outer.dense().detach() * 1.1}, stream(1, "seen"))
    mean = FactoredTensors({"w": outer})
    found = noise.log_likelihood(seen, Belief(mean))
    assert ("w" in mean._formed) == (power > 100)
    expected = torch.distributions.Normal(outer.dense().double(), noise.std).log_prob(seen["w"].double()).sum()
    assert abs(found.item() - expected.item()) < 1e-5 * seen["w"].numel()
    places = (outer.left, outer.right)
    slopes, known = torch.autograd.grad(found, places), torch.autograd.grad(expected, places)
    for slope, exact in zip(slopes, known, strict=True):
        assert (slope - exact).norm() < 1e-4 * exact.norm()


def test_laplace_then_gaussian_noise_is_matched_in_moments():
    assert_density(Chain(stages=(LaplaceNoise(scale=0.3), GaussianNoise(std=0.5))), 0.7, 20_000, tolerance=0.012)


@pytest.mark.parametrize("noise", [GaussianNoise(snr=4.0), LaplaceNoise(snr=4.0)])
def test_the_server_recovers_the_strength_of_relative_noise(noise):
    truth = {"w": torch.randn(20_000, generator=stream(0, "u"))}
    seen = noise.on_update(truth, stream(1, "x"))
    fixed = GaussianNoise(std=0.5) if isinstance(noise, GaussianNoise) else LaplaceNoise(std=0.5)
    relative, known = (d.log_likelihood(seen, Belief(truth)).item() for d in (noise, fixed))
    assert relative == pytest.approx(known, rel=0.01)


def test_qsgd_then_gaussian_noise_is_close_where_noise_covers_a_step():
    # Two levels a step apart under noise of 0.7 steps; 0.02 of probability in a bin is the price of matching moments.
    qsgd, number = QSGD(levels=4, norm="max"), 2500
    chain, truth = Chain(stages=(qsgd, GaussianNoise(std=0.175))), single(1.0, 0.4)
    sample = torch.stack(draws(chain, truth, number))[:, 1]
    edges = torch.linspace(-0.4, 1.2, 17)
    predicted = slice_density(chain, torch.tensor([1.0, 0.0]), 1, edges, truth)
    found = torch.histogram(sample, edges).hist / number
    for p, f in zip((predicted / predicted.sum()).tolist(), found.tolist(), strict=True):
        assert p == pytest.approx(f, abs=frequency_error(number, f) + 0.02)


def test_random_k_then_gaussian_noise_is_close_where_noise_covers_it():
    chain, number, truth = Chain(stages=(RandomK(sparsity=0.5), GaussianNoise(std=1.5))), 2500, single(1.0, -0.5)
    sample = torch.stack(draws(chain, truth, number))[:, 0]
    edges = torch.linspace(-5.0, 7.0, 17)
    predicted = slice_density(chain, torch.zeros(2), 0, edges, truth)
    found = torch.histogram(sample, edges).hist / number
    for p, f in zip((predicted / predicted.sum()).tolist(), found.tolist(), strict=True):
        assert p == pytest.approx(f, abs=frequency_error(number, f) + 0.015)


def test_gaussian_noise_then_random_k_scores_what_was_sent():
    chain, number, truth = Chain(stages=(GaussianNoise(std=0.5), RandomK(sparsity=0.5))), 3000, single(1.0, -0.5)
    sample = torch.stack(draws(chain, truth, number))[:, 0]
    sample = sample[sample != 0]
    edges = torch.linspace(-2.0, 6.0, 18)
    predicted = slice_density(chain, torch.zeros(2), 0, edges, truth)
    found = torch.histogram(sample, edges).hist / len(sample)
    for p, f in zip(predicted.tolist(), found.tolist(), strict=True):
        assert p == pytest.approx(f, abs=frequency_error(len(sample), f) + 0.01)


def test_gaussian_noise_then_top_k_is_exact():
    # One of three is sent: which one, and in which bin, with the bound on the other two.
    chain, number, truth = Chain(stages=(GaussianNoise(std=0.6), TopK(sparsity=0.7))), 3000, single(0.8, -0.4, 0.1)
    sample = torch.stack(draws(chain, truth, number))
    edges, total = torch.linspace(-3.0, 3.6, 133), 0.0
    for place in range(3):
        fine = slice_density(chain, torch.zeros(3), place, edges, truth)
        sent = sample[:, place][sample[:, place] != 0]
        found = torch.histogram(sent, edges[::12].contiguous()).hist / number
        for p, f in zip(fine.view(11, 12).sum(1).tolist(), found.tolist(), strict=True):
            assert p == pytest.approx(f, abs=frequency_error(number, p) + 1e-3)
        total += fine.sum().item()
    assert total == pytest.approx(1.0, abs=2e-3)


def test_gaussian_noise_then_clip_is_the_projected_gaussian():
    # The direction of N(m, s^2 I) has the density int r^(d-1) exp(-|r w - m|^2 / 2 s^2) dr, here by quadrature.
    truth, std, bound = torch.randn(200, generator=stream(0, "u")), 0.5, 3.0
    chain = Chain(stages=(GaussianNoise(std=std), Clip(norm=bound)))
    seen = chain.on_update({"w": truth}, stream(1, "x"))["w"]
    radius = torch.linspace(0.01, 60, 60_000, dtype=torch.float64)

    def exact(mean: Tensor) -> float:
        along = float(seen.double() @ mean.double()) / bound
        square = radius**2 - 2 * radius * along + float(mean.double().square().sum())
        return torch.logsumexp(199 * radius.log() - square / (2 * std**2), 0).item()

    reference = exact(truth), log_p(chain, seen, {"w": truth})
    for seed, size in ((1, 0.1), (2, 0.3), (3, 1.0)):
        other = truth + size * torch.randn(200, generator=stream(seed, "u"))
        right, found = exact(other) - reference[0], log_p(chain, seen, {"w": other}) - reference[1]
        assert found == pytest.approx(right, rel=1e-3, abs=0.05)


def test_at_the_bound_clip_knows_the_direction_but_not_the_length():
    truth, defence = update(0), Clip(norm=1.0)
    seen = defence.on_update(truth, stream(0, "x"))
    longer = {n: 3 * t for n, t in truth.items()}
    shorter = {n: t / 100 for n, t in truth.items()}
    scores = {k: defence.log_likelihood(seen, Belief(b)) for k, b in (("t", truth), ("l", longer), ("s", shorter))}
    assert torch.allclose(scores["t"], scores["l"], rtol=1e-4)
    assert scores["s"] < scores["t"] - 100


def test_scaled_signs_score_the_scale():
    truth = {"w": torch.randn(300, generator=stream(0, "u"))}
    chain = Chain(stages=(GaussianNoise(std=0.3), SignSGD(scale="mean_abs")))
    seen = chain.on_update(truth, stream(1, "x"))
    scores = [chain.log_likelihood(seen, Belief({"w": f * truth["w"]})).item() for f in (0.7, 1.0, 1.4)]
    assert scores[1] > max(scores[0], scores[2]) + 5


# The pieces


def test_what_was_not_sent_is_bounded_by_what_was():
    defence, seen = TopK(sparsity=0.5), single(0.0, 3.0, 2.0, 0.0)
    inside, outside = single(1.9, 3.0, 2.0, -1.9), single(2.5, 3.0, 2.0, -1.9)
    flat = defence.log_likelihood(seen, Belief(single(0.0, 3.0, 2.0, 0.0)))
    assert defence.log_likelihood(seen, Belief(inside)) == flat
    assert defence.log_likelihood(seen, Belief(outside)) < flat
    # Fewer non-zero values than were kept: the rest were exactly zero.
    few = single(0.0, 3.0, 0.0, 0.0)
    assert defence.log_likelihood(few, Belief(few)) > defence.log_likelihood(few, Belief(single(0.5, 3.0, 0.0, 0.0)))


def test_a_cell_is_flat_inside_and_quadratic_outside():
    defence = UniformQuantisation(bits=3)  # step 1
    seen = single(3.0, 1.0, 0.0)
    score = {m: log_p(defence, seen["w"], single(3.0, m, 0.0)) for m in (0.6, 1.0, 1.4, 1.6, 1.7)}
    assert score[0.6] == score[1.0] == score[1.4] == 0
    assert score[1.7] / score[1.6] == pytest.approx(4.0, rel=1e-3)


def test_random_k_says_nothing_about_what_was_not_sent():
    seen = single(2.0, 0.0)
    scores = [log_p(RandomK(sparsity=0.5), seen["w"], single(1.0, other)) for other in (0.0, 5.0)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("levels", [1, 3, 4, 16, 255, 1024])
@pytest.mark.parametrize("size", [50, 500])
def test_the_norm_behind_qsgd_s_values_is_recovered(levels, size):
    rows = torch.randn(20, size, generator=stream(0, "u"))
    defence = QSGD(levels=levels, bucket=size)
    sent = defence.on_update({"w": rows}, stream(1, "x"))["w"]
    assert torch.allclose(_recovered_norms(sent, levels), rows.norm(dim=1, keepdim=True), rtol=1e-4)


def test_the_norm_of_a_single_value_is_its_size():
    sent = QSGD(levels=7).on_update(single(-2.5), stream(0, "x"))["w"]
    assert _recovered_norms(sent.view(1, 1), 7).item() == pytest.approx(2.5)


def test_the_level_probabilities_sum_to_one_and_have_no_gap():
    levels = torch.arange(-40.0, 41.0)
    for variance in (None, 1e-4, 0.09, 4.0, 99.0, 101.0):
        for mean in (0.0, 0.3, 2.5):
            spread = None if variance is None else torch.full_like(levels, variance)
            total = log_stochastic_level(levels, torch.full_like(levels, mean), spread).exp().sum()
            assert total.item() == pytest.approx(1.0, abs=3e-3)
        spread = None if variance is None else torch.full((500,), variance)
        far = log_stochastic_level(torch.zeros(500), torch.linspace(0.01, 300, 500), spread)
        assert (far.diff() < 0).all()
        assert far.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_interval_probabilities_agree_with_quadrature(dtype):
    for lower in (-30.0, -4.0, -0.5, 0.0, 2.0, 30.0):
        for width in (1e-3, 0.05, 0.0999, 0.1001, 1.0, 60.0):
            points = torch.linspace(0, 1, 20_001, dtype=torch.float64) * width + lower
            density = log_normal(points, torch.zeros_like(points), torch.ones_like(points))
            weights = torch.full_like(points, width / 20_000)
            weights[[0, -1]] /= 2
            exact = torch.logsumexp(density + weights.log(), 0).item()
            ends = torch.tensor([lower, lower + width], dtype=dtype)
            found = log_interval(ends[:1], ends[1:], torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype)).item()
            assert found == pytest.approx(exact, rel=1e-4, abs=2e-4 if dtype == torch.float32 else 1e-4)


def test_gradients_agree_with_finite_differences():
    generator = stream(0, "gradcheck")
    mean, value = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    variance = torch.rand(6, generator=generator, dtype=torch.float64) + 0.2
    mean.requires_grad_()
    variance.requires_grad_()
    scale = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m, v: log_normal_laplace(value, m, v, scale), (mean, variance))
    assert torch.autograd.gradcheck(lambda m, v: log_interval(value, value + 0.8, m, v.sqrt()), (mean, variance))
    assert torch.autograd.gradcheck(lambda m, v: log_interval(value, value + 0.01, m, v.sqrt()), (mean, variance))
    assert torch.autograd.gradcheck(lambda m, v: log_stochastic_level(value.round(), m, v), (mean, variance))


@pytest.mark.parametrize(
    "last", [SignSGD(), SignSGD(scale="mean_abs"), UniformQuantisation(bits=3), TopK(sparsity=0.5)]
)
@pytest.mark.parametrize("first", [GaussianNoise(std=0.6), GaussianNoise(snr=2.0), Clip(norm=2.0)])
def test_gradients_of_chains_agree_with_finite_differences(first, last):
    stages = (GaussianNoise(std=0.5), first, last)
    truth = torch.randn(8, generator=stream(1, "gradcheck"), dtype=torch.float64)
    chain = Chain(stages=stages)
    seen = chain.on_update({"w": truth}, stream(0, "x"))
    candidate = torch.randn(8, generator=stream(2, "gradcheck"), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: chain.log_likelihood(seen, Belief({"w": m})), (candidate,))


@each
def test_a_large_update_is_scored_in_pieces_without_a_change(defence, monkeypatch):
    chain = Chain(stages=(GaussianNoise(std=0.2), defence))
    seen = chain.on_update(update(0), stream(0, "x"))

    def score_and_gradient() -> list[Tensor]:
        candidate = {n: t.clone().requires_grad_() for n, t in update(1).items()}
        score = chain.log_likelihood(seen, belief(candidate))
        return [score, *torch.autograd.grad(score, list(candidate.values()))]

    whole = score_and_gradient()
    monkeypatch.setattr(summation, "PIECE", 7)
    for at_once, in_pieces in zip(whole, score_and_gradient(), strict=True):
        assert torch.allclose(at_once, in_pieces, rtol=1e-4, atol=1e-4)
