"""The network that deep leakage was shown on: a LeNet without a kink, its weights drawn wide."""

from __future__ import annotations

from torch import nn

SPREAD = 0.5


def build(channels: int = 1, side: int = 64, num_classes: int = 2) -> nn.Module:
    """Three 5 x 5 convolutions of 12 channels with sigmoids, two of them halving the image, and a dense layer.

    Zhu et al. 2019, section 4: "replace ReLU with Sigmoid, remove strides"; their published example draws all weights
    and biases from U(-0.5, 0.5).
    """
    network = nn.Sequential(
        nn.Conv2d(channels, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(12 * (side // 4) ** 2, num_classes),
    )
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -SPREAD, SPREAD)
    return network
