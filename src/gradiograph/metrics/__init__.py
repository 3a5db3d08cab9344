"""What leaked, one value per record: distortion, perception, identity, meaning."""

from gradiograph.metrics import (
    feature_distance,
    finding_agreement,
    identification,
    lpips,
    ms_ssim,
    mse,
    psnr,
    ssim,
    variance_explained,
)
from gradiograph.metrics.judge import JUDGE, Judge, judge_available, load_judge, pack_judge, require_stranger
from gradiograph.metrics.judge_training import fit_judge, view
from gradiograph.metrics.lpips_weights import lpips_available
from gradiograph.metrics.mask_dice import mask_dice
from gradiograph.metrics.matching import match
from gradiograph.metrics.metric import Metric

__all__ = [
    "JUDGE",
    "Judge",
    "Metric",
    "feature_distance",
    "finding_agreement",
    "fit_judge",
    "identification",
    "judge_available",
    "load_judge",
    "lpips",
    "lpips_available",
    "mask_dice",
    "match",
    "ms_ssim",
    "mse",
    "pack_judge",
    "psnr",
    "require_stranger",
    "ssim",
    "variance_explained",
    "view",
]
