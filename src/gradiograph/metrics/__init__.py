"""What leaked, one value per record: distortion, perception, identity."""

from gradiograph.metrics import identification, lpips, ms_ssim, mse, psnr, ssim, variance_explained
from gradiograph.metrics.lpips_weights import lpips_available
from gradiograph.metrics.matching import match
from gradiograph.metrics.metric import Metric

__all__ = [
    "Metric",
    "identification",
    "lpips",
    "lpips_available",
    "match",
    "ms_ssim",
    "mse",
    "psnr",
    "ssim",
    "variance_explained",
]
