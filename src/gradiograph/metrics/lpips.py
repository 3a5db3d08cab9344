"""Learned perceptual image patch similarity."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, squeezenet1_1

from gradiograph.core.errors import BadInput, WeightsProblem
from gradiograph.core.registry import register
from gradiograph.core.scoring import ScoringContext
from gradiograph.metrics.lpips_weights import Network, backbone_state, head_weights
from gradiograph.metrics.metric import Metric, single_score

SMALLEST = 32
_CHUNK = 32
_BUILD = {"alex": alexnet, "squeeze": squeezenet1_1}
# The layers of `features` whose outputs are compared.
_TAPS: Mapping[Network, tuple[int, ...]] = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
# LPIPS between a horizontal and a vertical ramp, made once with the package's own implementation: tells at loading
# whether the backbone is the one that the heads were fitted to.
_KNOWN_ANSWER: Mapping[Network, float] = {"alex": 0.5109, "squeeze": 0.3623}


@final
class LpipsFeatures(nn.Module):
    """Images as points whose squared Euclidean distance is their LPIPS.

    Zhang et al. 2018, equation 1: features normalised to unit length over the channels, squared differences weighted
    by the head, averaged over the pixels, summed over the layers. Weights and averages are put into the features, so
    that the features of a gallery are computed once.

    Args:
        network: The backbone.
        backbone: Its convolutional layers, by torchvision's names without `features.`.
        heads: One non-negative weight per channel for each compared layer.

    Raises:
        WeightsProblem: the weights do not fit the network.
    """

    def __init__(self, network: Network, backbone: Mapping[str, Tensor], heads: list[Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):  # no random initialisation: it would draw from torch's global generator
            features = _BUILD[network](weights=None).features
        ends = [0, *(tap + 1 for tap in _TAPS[network])]
        try:
            features.load_state_dict(backbone, assign=True)
        except RuntimeError:
            msg = (
                f"The weights do not fit the LPIPS network '{network}': expected the tensors of torchvision's "
                f"`{_BUILD[network].__name__}().features`. Save that state dict with the prefix `features.`."
            )
            raise WeightsProblem(msg) from None
        self.slices = nn.ModuleList(features[start:end] for start, end in pairwise(ends))
        self.requires_grad_(False).eval()
        for layer, weights in enumerate(heads):
            self.register_buffer(f"head{layer}", weights.sqrt().view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The points of the images.

        Args:
            images: (B, 1 or 3, H, W) in [0, 1], at least 32 x 32; grey is repeated to three channels.

        Returns:
            float32 (B, D); D grows with the number of pixels (about 150,000 at 128 x 128 with AlexNet).

        Raises:
            BadInput: the images are too small, or neither grey nor RGB.
        """
        channels, height, width = images.shape[1:]
        if min(height, width) < SMALLEST or channels not in {1, 3}:
            msg = (
                f"LPIPS needs grey or RGB images of at least {SMALLEST} x {SMALLEST} pixels; got {channels} channels, "
                f"{height} x {width}. Raise `image_size`, or leave LPIPS out of `metrics`."
            )
            raise BadInput(msg)
        return torch.cat([self._points(chunk) for chunk in torch.split(images, _CHUNK)])

    def _points(self, images: Tensor) -> Tensor:
        rgb = images.expand(-1, 3, -1, -1)
        outputs = (2 * rgb - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        points = []
        for layer, part in enumerate(self.slices):
            outputs = part(outputs)
            unit = outputs / (outputs.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            pixels = outputs.shape[-2] * outputs.shape[-1]
            points.append((unit * self.get_buffer(f"head{layer}") / pixels**0.5).flatten(1))
        return torch.cat(points, dim=1)


def load_lpips(network: Network, folders: Mapping[str, Path]) -> LpipsFeatures:
    """The network with its published weights; see `lpips_weights` for where they are looked for.

    Args:
        network: The backbone.
        folders: `ScoringContext.network_folders`.

    Raises:
        WeightsProblem: the weights are missing, unreadable, do not fit, or are not the ones that LPIPS was fitted to.
    """
    features = LpipsFeatures(network, backbone_state(network, folders), head_weights(network))
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    answer = lpips_distance(features(ramp), features(ramp.mT)).item()
    if abs(answer - _KNOWN_ANSWER[network]) > 1e-3:
        msg = (
            f"The weights of the LPIPS network '{network}' are not torchvision's ImageNet weights: two test images are "
            f"{answer:.4f} apart and must be {_KNOWN_ANSWER[network]:.4f}. Replace the file by torchvision's."
        )
        raise WeightsProblem(msg)
    return features


def lpips_features(images: Tensor, network: Network, context: ScoringContext) -> Tensor:
    """The points (B, D) of images (B, C, H, W) in [0, 1]; the network is loaded once per context."""
    key = ("lpips network", network)
    if key not in context.cache:
        context.cache[key] = load_lpips(network, context.network_folders)
    features = context.cache[key]
    assert isinstance(features, LpipsFeatures)  # noqa: S101 - narrows the cache's type
    points: Tensor = features.to(images.device)(images)
    return points


def lpips_distance(first: Tensor, second: Tensor) -> Tensor:
    """LPIPS (B,) between points (B, D) and (B, D)."""
    return (first - second).square().sum(dim=1)


@register("metric", "lpips", paper="Zhang et al. 2018, arXiv 1801.03924")
def lpips(*, network: Network = "alex") -> Metric:
    """Learned perceptual distance per record, 0 for identical images; smaller = more leaked.

    Zhang et al. 2018, equation 1, version 0.1 of the heads. Calibrated by people's judgements of 64 x 64 patches of
    photographs: on medical films it is a measure of likeness, not of identity; see `identification`. Needs at least
    32 x 32 pixels; below 64 x 64 the deepest layers see very few positions.

    Args:
        network: Backbone: "alex" (AlexNet, the authors' choice for measuring) or "squeeze" (SqueezeNet 1.1).

    Returns:
        The metric with the score `lpips`, or `lpips_squeeze`, so that an audit can hold both. It raises `BadInput` for
        images smaller than 32 x 32, and `WeightsProblem` where the weights are neither on the machine nor to be had.
    """

    def measure(guess: Tensor, truth: Tensor, context: ScoringContext) -> Tensor:
        return lpips_distance(lpips_features(guess, network, context), lpips_features(truth, network, context))

    name = "lpips" if network == "alex" else f"lpips_{network}"
    return single_score(name, f"LPIPS distance, {network}", measure, larger_leaks_more=False)
