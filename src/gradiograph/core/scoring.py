"""What a metric may use besides the guess and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoringContext:
    """The material of the controls, and the weights of the networks that judge.

    Attributes:
        gallery: (N, C, H, W) films of patients other than the victims, in [0, 1].
        gallery_labels: int64 (N,).
        gallery_patients: N keyed pseudonyms.
        mean_film: (C, H, W), the mean of the attacker's public films.
        network_folders: Folder of weights by network family, such as {"lpips": Path}.
        cache: Features that a metric computed once for the gallery; metrics own their keys.
    """

    gallery: Tensor
    gallery_labels: Tensor
    gallery_patients: tuple[str, ...]
    mean_film: Tensor
    network_folders: Mapping[str, Path]
    cache: dict[object, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One value per record: a name, its unit, its direction, values (B,)."""

    name: str
    unit: str
    larger_leaks_more: bool
    values: Tensor
