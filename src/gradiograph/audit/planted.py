"""Whether our replay is what somebody else's app does: its update on known films, beside ours on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradiograph.audit.variants import Variant, variants
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting
from gradiograph.core.replay import replay
from gradiograph.core.tensors import Batch, Tensors

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from gradiograph.audit.client import CapturedRound
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task

TOLERANCE = 0.01
"""Largest relative error at which an update counts as the same; other hardware's arithmetic stays well below."""
_SLACK = 0.1
"""How far the noise's sum of squares may be from what the defence expects, besides its own spread."""
_FEW = 64
"""So many different values in a tensor can be levels; smaller tensors say nothing."""
_ROUNDING = 2.0**-23
"""Two state dicts give their difference to a rounding of the weights, which counts where steps are small."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What the planted films say.

    Attributes:
        agrees: Whether our replay gives the captured update.
        error: The relative error of the replay beyond what noise and rounding explain, 0 where there is none.
        noise: The relative size of the defence's noise, which hides differences that are smaller.
        differs: Which part of the protocol differs, in a sentence; empty where they agree.
    """

    agrees: bool
    error: float
    noise: float
    differs: str = ""

    def entry(self) -> dict[str, object]:
        """For the log's header."""
        return asdict(self)


def replay_planted(
    task: Task,
    protocol: Protocol,
    defence: Chain,
    seen: CapturedRound,
    batch: Batch,
    changed: Collection[str] = (),
) -> Replayed:
    """Replay a captured round on its films, and where that differs, look for the one part that explains it.

    Args:
        task: Model, loss and mode, as the audit file has them.
        protocol: Likewise.
        defence: Likewise; of a noisy one the mean is compared, and its noise allowed for.
        seen: What the app sent.
        batch: The planted films.
        changed: Names of the parameters that the app changed.

    Raises:
        BadSetting: what the app does is random beyond the defence, so that no replay could tell.
    """
    _require_replayable(protocol, batch)
    own = _compared(Variant("", task, protocol, defence, batch), seen)

    def differs(sentence: str) -> Replayed:
        return Replayed(agrees=False, error=own.error, noise=own.noise, differs=sentence)

    foreign = sorted(set(changed) - set(task.trainable))
    if foreign:
        return differs(f"The layers that train differ: the app changes '{foreign[0]}', the audit's task does not.")
    if own.error <= TOLERANCE:
        return Replayed(agrees=True, error=own.error, noise=own.noise)
    for group in variants(task, protocol, defence, seen, batch):
        tried = [(_compared(variant, seen).error, variant) for variant in group]
        nearest, variant = min(tried, key=lambda entry: entry[0], default=(inf, None))
        if variant and nearest <= TOLERANCE:
            return differs(variant.sentence)
    return differs(_shape(seen.update.tensors, own.mean) or _unexplained(nearest, variant))


def _require_replayable(protocol: Protocol, batch: Batch) -> None:
    size = getattr(protocol, "batch_size", None)
    if size is not None and size < len(batch):
        msg = (
            f"captured.planted: {len(batch)} films in mini-batches of {size} come in an order that only the client "
            f"knows. Plant at most {size} films."
        )
        raise BadSetting(msg)
    if protocol.augments:
        msg = "captured.planted: the protocol augments at random: no replay can be exact. Plant without augmentation."
        raise BadSetting(msg)


class _Comparison(NamedTuple):
    error: float
    noise: float
    mean: Tensors


def _compared(variant: Variant, seen: CapturedRound) -> _Comparison:
    """A replay beside what was captured; the error is infinite where the variant cannot run."""
    sent = seen.update.tensors
    try:
        with torch.no_grad():
            clean = replay(variant.task, seen.state, variant.protocol, variant.defence, variant.batch)
            belief = variant.defence.expect(clean)
    except (RuntimeError, ValueError):  # a variant that this model cannot run is none
        return _Comparison(inf, 0.0, {})
    mean = {name: belief.mean.get(name, torch.zeros_like(tensor)) for name, tensor in sent.items()}
    size = _squares(sent)
    variances = (belief.variance or {}).values()
    noise = sum(float(variance.sum()) for variance in variances)
    spread = (2 * sum(float(variance.square().sum()) for variance in variances)) ** 0.5
    rounding = _ROUNDING**2 * _squares({name: seen.state[name] + sent[name] for name in sent})
    # Noise that is missing is a difference as well: its own sum of squares is close to its expectation.
    beyond = abs(_squares({name: sent[name] - mean[name] for name in sent}) - noise) - _SLACK * noise - 4 * spread
    error = (max(beyond - rounding, 0.0) / size) ** 0.5 if size else 0.0
    return _Comparison(error if isfinite(error) else inf, (noise / size) ** 0.5 if size else 0.0, mean)


def _squares(tensors: Tensors) -> float:
    return sum(float(tensor.square().sum()) for tensor in tensors.values())


def _unexplained(nearest: float, variant: Variant | None) -> str:
    told = f"; the nearest one still differs by {nearest:.0%}: {variant.sentence}" if variant else "."
    return (
        f"No single change of the protocol that was tried gives the captured update{told} Compare the loss, the "
        "scaling of the images, the optimiser and the layers that train, one by one."
    )


def _shape(sent: Tensors, expected: Tensors) -> str:
    """What the values alone say of a protection that the audit file does not name."""
    large = [tensor for tensor in sent.values() if tensor.numel() >= _FEW]
    if large and all(_is_few(tensor[tensor != 0]) for tensor in large):
        return "The app sends few different values in a tensor: it quantises. Name it in captured.defence."
    pairs = [(sent[name].flatten(), expected[name].flatten()) for name in sent if name in expected]
    values, own = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    dropped = float((values[own != 0] == 0).float().mean()) if bool(own.any()) else 0.0
    if dropped > 0.5:
        return f"The app sends {dropped:.0%} of the values as zero: it sparsifies. Name it in captured.defence."
    return ""


def _is_few(values: Tensor) -> bool:
    """Whether these values are levels: a few, each of them again and again."""
    different = len(torch.unique((values / values.abs().max()).mul(1e3).round())) if len(values) else 0
    return different <= min(_FEW, max(2, len(values) // 4))
