"""Random sparsification."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from gradiograph.core.defence import Defence
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import count, log_exact, tolerances, variances
from gradiograph.defences.sparsity import num_kept

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.tensors import Tensors


@register("defence", "random_k", paper="Konecny et al. 2016, arXiv 1610.05492; Wangni et al. 2018, arXiv 1710.09854")
@dataclass(frozen=True, kw_only=True)
class RandomK(Defence):
    """Send ceil((1 - sparsity) n) values of each tensor, chosen uniformly at random; the rest arrive as zero.

    The places follow from a seed that the server shares (the subsampling of Konecny et al.'s sketched updates), so they
    cost no bits each. What was sent is known exactly, what was not is not known at all. A value that arrives as zero is
    taken as not sent.

    Args:
        sparsity: Share of values dropped, in [0, 1); 0 sends all.
        rescale: Multiply what is sent by n / k, so that the update is unbiased.

    Differs from the paper: Wangni et al. choose with unequal probabilities; here they are equal.

    >>> RandomK(sparsity=0.75).on_update({"w": torch.ones(4)}, torch.Generator())["w"].sum()
    tensor(4.)
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)]
    rescale: bool = True

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The chosen values at their places, zeros elsewhere."""
        sent = {}
        for name, tensor in tensors.items():
            flat, (kept, factor) = tensor.reshape(-1), self._kept(tensor)
            places = torch.randperm(len(flat), generator=generator)[:kept].to(tensor.device)
            sent[name] = torch.zeros_like(flat).index_copy(0, places, flat[places] * factor).view(tensor.shape)
        return sent

    def expect(self, belief: Belief) -> Belief:
        """Mean and variance over the random choice, exact for each value.

        A server that shares the seed knows the places, but `expect` does not see them: a channel after this one is
        scored as if they were unknown, which understates what that server can do.
        """
        spread, means, total = variances(belief), {}, {}
        for name, mean in belief.mean.items():
            before, (kept, factor) = spread[name], self._kept(mean)
            if kept == mean.numel():
                means[name], total[name] = mean, before
                continue
            share = kept / mean.numel()
            second = mean.square() if before is None else mean.square() + before
            means[name] = factor * share * mean
            total[name] = (factor**2 * share * second - means[name].square()).clamp_min(0)
        if all(variance is None for variance in total.values()):
            return Belief(means)
        return Belief(means, {n: torch.zeros_like(means[n]) if v is None else v for n, v in total.items()})

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log density of what was sent: exact with variance, the squared error in tolerances without."""
        spread, tolerance, terms = variances(belief), tolerances(seen), []
        for name, value in seen.items():
            before, (_, factor) = spread[name], self._kept(value)
            variance = None if before is None else factor**2 * before
            scores = log_exact(value, factor * belief.mean[name], variance, tolerance[name])
            terms.append((scores * (value != 0)).sum())
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """K values and a seed of 64 bits; unchanged if all are sent. Places that were sent before still are."""
        kept = sum(self._kept(tensor)[0] for tensor in sent.values())
        if kept == count(sent):
            return encoding
        overhead = encoding.overhead_bits + 64
        return replace(encoding, num_values=min(kept, encoding.num_values), overhead_bits=overhead)

    def _kept(self, tensor: Tensor) -> tuple[int, float]:
        """The number of values kept and the factor they are multiplied by."""
        kept = num_kept(self.sparsity, tensor.numel())
        return kept, tensor.numel() / kept if self.rescale else 1.0
