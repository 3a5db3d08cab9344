"""Top-k sparsification."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log2
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from gradiograph.core.defence import Defence
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import count, log_exact, log_within, straight_through, tolerances, variances
from gradiograph.defences.exceedance import exceedance_threshold
from gradiograph.defences.sparsity import num_kept
from gradiograph.defences.summation import summed

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.tensors import Tensors


@register("defence", "top_k", paper="Aji and Heafield 2017, arXiv 1704.05021")
@dataclass(frozen=True, kw_only=True)
class TopK(Defence):
    """Send only the ceil((1 - sparsity) n) values of largest magnitude, and their places; the rest arrive as zero.

    Exactly so many are kept, at least 1, under ties too. What was not sent is no larger than the smallest that was;
    where fewer non-zero values arrive than are kept, the rest were exactly zero.

    Args:
        sparsity: Share of values dropped, in [0, 1); 0 sends all.
        scope: Whether the largest are chosen in each "tensor" or over the whole "update".

    Differs from the paper: no accumulation of the residual over rounds; an exact threshold, not a sampled one.

    >>> TopK(sparsity=0.5).on_update({"w": torch.tensor([1.0, -3.0, 2.0, 0.5])}, torch.Generator())["w"]
    tensor([ 0., -3.,  2.,  0.])
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)]
    scope: Literal["tensor", "update"] = "tensor"

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The largest values at their places, zeros elsewhere; draws nothing."""
        return self._keep(tensors)

    def expect(self, belief: Belief) -> Belief:
        """The mean's largest values, exact without variance; the gradient goes straight through.

        With variance: mean and variance of X where |X| > t, else 0, with t the magnitude that k values are expected to
        exceed: close where there are many values.
        """
        if belief.variance is None:
            kept = self._keep(belief.mean)
            return Belief({name: straight_through(kept[name], mean) for name, mean in belief.mean.items()})
        means, spreads = {}, {}
        for names in self._groups(belief.mean):
            mean, variance = _flat(belief.mean, names), _flat(belief.variance, names)
            kept_values = num_kept(self.sparsity, mean.numel())
            if kept_values == mean.numel():
                means.update({n: belief.mean[n] for n in names})
                spreads.update({n: belief.variance[n] for n in names})
                continue
            threshold = exceedance_threshold(mean[None], variance[None], kept_values).squeeze()
            for n in names:
                means[n], spreads[n] = _beyond(belief.mean[n], belief.variance[n], threshold)
        return Belief(means, spreads)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log density of what was sent plus log probability that the rest is no larger than the smallest sent: exact.

        Without variance: squared errors of the sent and squared excess of the rest, in units of the tolerance.
        """
        spread, tolerance, terms = variances(belief), tolerances(seen), []
        for names in self._groups(seen):
            sent = torch.cat([seen[n].reshape(-1)[seen[n].reshape(-1) != 0] for n in names]).abs()
            full = len(sent) >= num_kept(self.sparsity, sum(seen[n].numel() for n in names))
            bound = sent.min() if full else None
            terms += [summed(partial(_score, bound, tolerance[n]), seen[n], belief.mean[n], spread[n]) for n in names]
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """The k values, each with an index as wide as the largest group needs; unchanged if all are sent.

        A group is a tensor, or with scope "update" all of them.
        """
        sizes = [sum(sent[n].numel() for n in names) for names in self._groups(sent)]
        kept = sum(num_kept(self.sparsity, size) for size in sizes)
        if kept == count(sent):
            return encoding
        return replace(encoding, num_values=min(kept, encoding.num_values), index_bits=ceil(log2(max(sizes))))

    def _groups(self, tensors: Tensors) -> list[list[str]]:
        return [list(tensors)] if self.scope == "update" else [[name] for name in tensors]

    def _keep(self, tensors: Tensors) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for names in self._groups(tensors):
            flat = _flat(tensors, names).detach()
            places = flat.abs().topk(num_kept(self.sparsity, flat.numel()), sorted=False).indices
            sparse = torch.zeros_like(flat).index_copy(0, places, flat[places])
            parts = torch.split(sparse, [tensors[n].numel() for n in names])
            kept.update({n: part.view(tensors[n].shape) for n, part in zip(names, parts, strict=True)})
        return kept


def _flat(tensors: Tensors, names: list[str]) -> Tensor:
    if len(names) == 1:
        return tensors[names[0]].reshape(-1)
    return torch.cat([tensors[n].reshape(-1) for n in names])


def _score(bound: Tensor | None, tolerance: Tensor, seen: Tensor, mean: Tensor, variance: Tensor | None) -> Tensor:
    """Density of what was sent, probability of being within the bound for the rest; all was sent if that is None."""
    sent = log_exact(seen, mean, variance, tolerance)
    return sent if bound is None else torch.where(seen != 0, sent, log_within(-bound, bound, mean, variance, tolerance))


def _beyond(mean: Tensor, variance: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of X where |X| > threshold, else 0; the gradients go straight through."""
    centre, spread = mean.detach(), variance.detach().clamp_min(1e-30)
    std = spread.sqrt()
    low, high = (-threshold - centre) / std, (threshold - centre) / std
    inside = torch.special.ndtr(high) - torch.special.ndtr(low)
    at_low, at_high = (
        torch.exp(-0.5 * low**2) / (2 * torch.pi) ** 0.5,
        torch.exp(-0.5 * high**2) / (2 * torch.pi) ** 0.5,
    )
    first = centre * inside + std * (at_low - at_high)
    second = centre * (first + std * (at_low - at_high)) + spread * (inside + low * at_low - high * at_high)
    kept = centre - first
    left = (centre**2 + spread - second - kept**2).clamp_min(0)
    return straight_through(kept, mean), straight_through(left, variance)
