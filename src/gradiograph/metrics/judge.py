"""The judge: a network that knows radiographs, trained on public patients, which says whose film and what it shows."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from gradiograph.core.errors import WeightsProblem
from gradiograph.core.fitted import known_among, owners, read_arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gradiograph.core.scoring import ScoringContext

FORMAT = "gradiograph judge 1"
SIDE = 64
"""Films are looked at in grey, with so many pixels a side."""
WIDTHS = (24, 48, 96, 192)
EMBEDDING = 96
_GROUP = 8
JUDGE = "judge"
"""What the audit's judge is called among its `networks`, unless a metric asks for another."""
_TRAIN = "Train one with `gradiograph judge train FILE` and name it: networks = {{ {} = 'judge.npz' }}."


class JudgeNetwork(nn.Module):
    """Four strided convolutions with GroupNorm; an embedding of unit length, and the finding's logits.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(after // _GROUP, after),
                nn.ReLU(),
            ]
        self.trunk = nn.Sequential(*layers)
        self.whose = nn.Linear(WIDTHS[-1] * (SIDE // 16) ** 2, EMBEDDING)
        self.finding = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) in [0, 1] -> embeddings (B, D) of length 1 and logits (B, K)."""
        grey = images.mean(dim=1, keepdim=True)
        if grey.shape[-2:] != (SIDE, SIDE):
            grey = interpolate(grey, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        mean, std = grey.mean(dim=(1, 2, 3), keepdim=True), grey.std(dim=(1, 2, 3), keepdim=True)
        seen = self.trunk((grey - mean) / (std + 0.05))
        return normalize(self.whose(seen.flatten(1)), dim=1), self.finding(seen.mean(dim=(2, 3)))


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A trained network and what is known of it.

    Attributes:
        network: In eval mode, without gradients.
        classes: The findings' names.
        card: What it was trained on, how, and how good it is on patients that it was not trained on.
    """

    network: JudgeNetwork = field(repr=False)
    classes: tuple[str, ...]
    card: Mapping[str, Any]

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) of length 1 and probabilities (B, K) of images (B, C, H, W) in [0, 1]."""
        with torch.no_grad():
            found = [self.network(block) for block in torch.split(images.float(), 64)]
        return torch.cat([whose for whose, _ in found]), torch.cat([logits for _, logits in found]).softmax(dim=1)


def pack_judge(judge: Judge, patients: Iterable[str], key: bytes) -> bytes:
    """The judge as arrays without pickle, with its patients as pseudonyms under a key that lies beside them."""
    weights = {f"weights.{name}": tensor.numpy(force=True) for name, tensor in judge.network.state_dict().items()}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.array(FORMAT),
        classes=np.array(judge.classes),
        card=np.array(json.dumps(dict(judge.card))),
        **owners(patients, key),
        **weights,
    )
    return buffer.getvalue()


def load_judge(path: Path) -> Judge:
    """Read what `pack_judge` wrote; never runs code that the file holds.

    Raises:
        WeightsProblem: the file is missing, damaged or no judge.
    """
    arrays = _read(path)
    network = _bare(len(arrays["classes"]))
    weights = {name: torch.from_numpy(arrays[f"weights.{name}"]) for name in network.state_dict()}
    network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(requires_grad=False)
    return Judge(network=network, classes=tuple(arrays["classes"].tolist()), card=json.loads(str(arrays["card"])))


def judge_available(folders: Mapping[str, Path], name: str = JUDGE) -> str | None:
    """Why nothing can be judged, or None if it can.

    Args:
        folders: `ScoringContext.network_folders`.
        name: Of the judge among them.
    """
    if name in folders:
        return None
    asked = "a judge" if name == JUDGE else f"a judge named '{name}'"
    return f"This metric needs {asked}. {_TRAIN.format(name)}"


def judge_of(context: ScoringContext, name: str = JUDGE) -> Judge:
    """The audit's judge of this name, read once.

    Raises:
        WeightsProblem: the audit names none, or its file is no judge.
    """
    missing = judge_available(context.network_folders, name)
    if missing:
        raise WeightsProblem(missing)
    place = ("judge", name)
    if place not in context.cache:
        context.cache[place] = load_judge(Path(context.network_folders[name]))
    judge = context.cache[place]
    assert isinstance(judge, Judge)  # noqa: S101 - narrows the cache's type
    return judge


def require_stranger(path: Path, patients: Iterable[str]) -> None:
    """Refuse a judge that was trained on films of any of these patients.

    Raises:
        WeightsProblem: it was, or the file is no judge; no patient is named.
    """
    arrays = _read(path)
    shared, asked = known_among(arrays, patients)
    if shared:
        msg = (
            f"The judge was trained on films of {shared} of the {asked} patients that it is to judge: it "
            "knows their films by heart. Train one on others with `gradiograph judge train FILE`."
        )
        raise WeightsProblem(msg)


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    return read_arrays(path, FORMAT, "judge", _TRAIN.format(JUDGE), _is_consistent, WeightsProblem)


def _is_consistent(arrays: Mapping[str, NDArray[Any]]) -> bool:
    weights = _bare(len(arrays["classes"])).state_dict()
    return "patients" in arrays and all(
        arrays[f"weights.{name}"].shape == tuple(tensor.shape) and np.isfinite(arrays[f"weights.{name}"]).all()
        for name, tensor in weights.items()
    )


def _bare(classes: int) -> JudgeNetwork:
    """The network without weights: first ones would be drawn from torch's global generator."""
    with torch.device("meta"):
        return JudgeNetwork(classes)
