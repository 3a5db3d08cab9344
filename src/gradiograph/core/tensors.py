"""The tensors that cross the wire and the rooms: always by parameter name, never by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Images and what they show.

    Attributes:
        images: (B, C, *spatial), float32 in [0, 1].
        targets: int64 (B,), or probabilities (B, K) so that an attacker can optimise labels. Of a task that segments,
            masks (B, *spatial) or probabilities (B, K, *spatial).
        patients: int64 (B,), equal where the patient is; None where it is not known. The number says nothing else.
    """

    images: Tensor
    targets: Tensor
    patients: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, places: slice | Tensor) -> Batch:
        """These images alone, with what belongs to them."""
        patients = None if self.patients is None else self.patients[places]
        return Batch(self.images[places], self.targets[places], patients)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What crosses the wire.

    Attributes:
        tensors: By parameter name; a gradient, or weights after minus weights before.
        buffers: Change of the model's buffers (BatchNorm's running statistics), empty where there are none.
        kind: "gradient" or "delta".
        num_examples: The number of images that made it.
        num_bytes: Size on the wire under the defence, fixed-length coding.
    """

    tensors: Tensors
    buffers: Tensors
    kind: Literal["gradient", "delta"]
    num_examples: int
    num_bytes: int


@dataclass(frozen=True)
class Belief:
    """What a candidate predicts for each parameter: a mean and, after noise, a variance of the mean's shape."""

    mean: Tensors
    variance: Tensors | None = None


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What an attack read out of an observation.

    Attributes:
        images: (B, C, *spatial), float32 in [0, 1].
        targets: Class probabilities (B, K) or int64 (B,) that the attack inferred or was given; None if it has none. Of
            a task that segments, probabilities (B, K, *spatial) or masks (B, *spatial).
        objective: The objective after each step, smaller is better.
        seconds: Wall time.
        flags: "truncated": fewer steps than the paper's; "approximate": the replay differs from the protocol;
            "partial": some image was not found, and something general stands in its place; "ambiguous": several
            reconstructions explain the update about equally well; "rank deficient": the update does not determine
            the image.
    """

    images: Tensor
    targets: Tensor | None
    objective: tuple[float, ...]
    seconds: float
    flags: tuple[str, ...] = ()


def global_norm(tensors: Tensors) -> Tensor:
    """The Euclidean norm over all tensors together: a scalar.

    >>> global_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    tensor(5.)
    """
    norm: Tensor = torch.stack([tensor.flatten().norm() for tensor in tensors.values()]).norm()
    return norm
