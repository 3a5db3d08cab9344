import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

import gradiograph.metrics  # noqa: F401 - registers
from gradiograph.core.errors import BadInput
from gradiograph.core.random import stream
from gradiograph.core.registry import build, component
from gradiograph.core.scoring import ScoringContext
from gradiograph.metrics import match

PLAIN = ("mse", "psnr", "ssim", "ms_ssim", "variance_explained")


def films(count, channels=1, size=48, seed=0):
    """Smooth random images in [0, 1]: structure at several scales, as films have."""
    generator = stream(seed, "films")
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    fine = torch.rand(count, channels, size, size, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    return 0.8 * smooth + 0.2 * fine


def noisy(images, std, seed=0):
    return (images + std * torch.randn(images.shape, generator=stream(seed, "noise"))).clamp(0, 1)


def context_of(truth):
    return ScoringContext(
        gallery=truth,
        gallery_labels=torch.zeros(len(truth), dtype=torch.int64),
        gallery_patients=tuple(map(str, range(len(truth)))),
        mean_film=torch.full(truth.shape[1:], 0.4),
        network_folders={},
    )


def scored(name, guess, truth):
    labels = torch.zeros(len(truth), dtype=torch.int64)
    (score,) = build("metric", {"use": name})(guess, truth, labels, context_of(truth))
    return score


def valid_ssim(guess, truth):
    """The SSIM of torchmetrics where the window fits: its own mean takes in a reflected border."""
    _, whole = structural_similarity_index_measure(
        guess, truth, data_range=1.0, reduction="none", return_full_image=True
    )
    return whole[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))


def multi_scale(guess, truth, weights):
    """MS-SSIM from the parts of torchmetrics, where the window fits."""
    value = 1
    for weight in weights[:-1]:
        _, contrast = structural_similarity_index_measure(
            guess, truth, data_range=1.0, reduction="none", return_contrast_sensitivity=True
        )
        value = value * contrast.relu() ** weight
        guess, truth = (torch.nn.functional.avg_pool2d(images, 2) for images in (guess, truth))
    return value * valid_ssim(guess, truth).relu() ** weights[-1]


WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@pytest.mark.parametrize("channels", [1, 3])
def test_mse_and_psnr_agree_with_skimage(channels):
    truth = films(3, channels)
    guess = noisy(truth, 0.1)
    pairs = [(x.numpy(), y.numpy()) for x, y in zip(truth, guess, strict=True)]
    torch.testing.assert_close(
        scored("mse", guess, truth).values, torch.tensor([mean_squared_error(*pair) for pair in pairs]).float()
    )
    torch.testing.assert_close(
        scored("psnr", guess, truth).values,
        torch.tensor([peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs]).float(),
    )


def test_known_values():
    truth = torch.zeros(1, 1, 16, 16)
    guess = torch.full_like(truth, 0.1)
    assert scored("mse", guess, truth).values.item() == pytest.approx(0.01)
    assert scored("psnr", guess, truth).values.item() == pytest.approx(20)
    # The mean film is 0.4 everywhere: its error is 0.16, of which 0.01 is left.
    assert scored("variance_explained", guess, truth).values.item() == pytest.approx(1 - 0.01 / 0.16)
    # Two flat images: SSIM is the luminance term alone, (2xy + C1) / (x^2 + y^2 + C1).
    assert scored("ssim", guess, truth).values.item() == pytest.approx(1e-4 / (0.01 + 1e-4), rel=1e-5)


def test_the_mean_film_explains_nothing_and_does_not_divide_by_zero():
    truth = films(2)
    mean = torch.full_like(truth, 0.4)
    assert scored("variance_explained", mean, truth).values.tolist() == pytest.approx([0, 0], abs=1e-6)
    assert scored("variance_explained", mean, mean).values.tolist() == [1, 1]
    assert scored("variance_explained", truth, mean).values.isfinite().all()


def test_identical_images_reach_the_stated_limits():
    truth = films(2)
    best = {"mse": 0, "psnr": 100, "ssim": 1, "ms_ssim": 1, "variance_explained": 1}
    for name in PLAIN:
        assert scored(name, truth.clone(), truth).values.tolist() == pytest.approx([best[name]] * 2), name


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_agrees_with_skimage_and_torchmetrics(channels):
    truth = films(3, channels, size=40)
    truth = truth[..., :33]
    guess = noisy(truth, 0.15)
    values = scored("ssim", guess, truth).values
    reference = [
        structural_similarity(
            x.double().numpy(),
            y.double().numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=0,
        )
        for x, y in zip(truth, guess, strict=True)
    ]
    torch.testing.assert_close(values, torch.tensor(np.array(reference)).float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(values, valid_ssim(guess, truth), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_ms_ssim_agrees_with_torchmetrics_at_five_scales(channels):
    truth = films(2, channels, size=180)
    guess = noisy(truth, 0.2)
    score = scored("ms_ssim", guess, truth)
    torch.testing.assert_close(score.values, multi_scale(guess, truth, WEIGHTS), atol=1e-5, rtol=0)
    # The function as a whole reflects the border of the coarsest scale.
    other = multiscale_structural_similarity_index_measure(guess, truth, data_range=1.0, reduction="none")
    torch.testing.assert_close(score.values, other, atol=1e-3, rtol=0)
    assert score.unit == "[0, 1], 5 scales"


def test_ms_ssim_uses_fewer_scales_on_small_images_and_says_so():
    truth = films(2, size=64)
    guess = noisy(truth, 0.2)
    score = scored("ms_ssim", guess, truth)
    weights = [weight / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3]]
    torch.testing.assert_close(score.values, multi_scale(guess, truth, weights), atol=1e-5, rtol=0)
    assert score.unit == "[0, 1], 3 scales"
    single = scored("ms_ssim", guess[..., :20, :20], truth[..., :20, :20])
    assert single.unit == "[0, 1], 1 scale"
    torch.testing.assert_close(single.values, scored("ssim", guess[..., :20, :20], truth[..., :20, :20]).values)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_an_image_smaller_than_the_window_is_refused(name):
    truth = films(1)[..., :10, :]
    with pytest.raises(BadInput, match="at least 11 x 11 pixels; got 10 x 48"):
        scored(name, truth, truth)


@pytest.mark.parametrize("name", PLAIN)
def test_inverted_images_have_finite_scores(name):
    truth = (films(2) > 0.5).float()
    assert scored(name, 1 - truth, truth).values.isfinite().all()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_direction_flag_orders_planted_cases(name, channels):
    truth, other = films(2, channels), films(2, channels, seed=1)
    cases = [scored(name, guess, truth) for guess in (truth, noisy(truth, 0.05), other)]
    assert len({case.larger_leaks_more for case in cases}) == 1
    itself, near, far = (case.values * (1 if case.larger_leaks_more else -1) for case in cases)
    assert (itself > near).all()
    assert (near > far).all()


@pytest.mark.parametrize("name", PLAIN)
def test_each_record_has_its_own_value_and_inputs_are_left_alone(name):
    truth = films(3)
    guess = torch.cat([truth[:1], noisy(truth[1:2], 0.1), noisy(truth[2:], 0.4)])
    copies = guess.clone(), truth.clone()
    values = scored(name, guess, truth).values
    alone = torch.cat([scored(name, guess[[i]], truth[[i]]).values for i in range(3)])
    torch.testing.assert_close(values, alone)
    assert values.dtype == torch.float32
    assert len(set(values.tolist())) == 3
    assert torch.equal(guess, copies[0])
    assert torch.equal(truth, copies[1])
    assert torch.equal(values, scored(name, guess, truth).values)


def test_values_carry_no_gradient():
    truth = films(2)
    assert not scored("ssim", truth.clone().requires_grad_(), truth).values.requires_grad


def test_what_would_broadcast_or_is_not_finite_is_refused():
    truth = films(2, 3)
    with pytest.raises(ValueError, match="compares"):
        scored("mse", truth[:, :1], truth)
    with pytest.raises(ValueError, match="not finite"):
        scored("mse", truth * math.nan, truth)


def test_metrics_take_no_setting_that_they_do_not_know():
    for name in PLAIN:
        assert not component("metric", name).settings.model_fields


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(6)), seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]))
def test_matching_recovers_a_permutation(order, seed, channels):
    truth = films(6, channels, size=16, seed=seed)
    guess = noisy(truth[list(order)], 0.02, seed)
    found = match(guess, truth)
    assert found.dtype == torch.int64
    assert [order[place] for place in found.tolist()] == list(range(6))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 5))
def test_matching_is_optimal(seed, count):
    guess, truth = films(count, size=8, seed=seed), films(count, size=8, seed=seed + 5000)

    def total(order):
        return (guess[list(order)] - truth).double().square().sum().item()

    assert total(match(guess, truth).tolist()) == pytest.approx(min(map(total, permutations(range(count)))))


def test_matching_is_not_greedy():
    # The first truth's nearest guess is also the only good one for the second.
    truth = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)
    guess = torch.tensor([0.4, 1.0]).view(2, 1, 1, 1)
    assert match(guess, truth).tolist() == [1, 0]


def test_matching_refuses_other_numbers_of_images():
    with pytest.raises(BadInput, match="one image for each image of the batch"):
        match(films(2), films(3))
