"""QSGD: unbiased stochastic quantisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log2
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch.nn.functional import pad

from gradiograph.core.defence import Defence
from gradiograph.core.registry import register
from gradiograph.core.tensors import Belief
from gradiograph.defences.exact import log_exact, tolerances, variances
from gradiograph.defences.exceedance import expected_maximum
from gradiograph.defences.rounding import log_stochastic_level, stochastic_rounding_variance
from gradiograph.defences.summation import summed

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.defence import Encoding
    from gradiograph.core.tensors import Tensors


@register("defence", "qsgd", paper="Alistarh et al. 2017, arXiv 1610.02132")
@dataclass(frozen=True, kw_only=True)
class QSGD(Defence):
    """Round each value's share of its bucket's norm up or down at random to a multiple of 1 / levels, without bias.

    Section 3.1: v_i = ||u|| sgn(u_i) xi_i, where xi_i is l / s or (l + 1) / s with mean |u_i| / ||u||. Signs, levels
    and the bucket's norm cross the wire.

    The decoded values do not carry the norm as such. With norm = "max" it is the bucket's largest magnitude. With "l2"
    it is recovered as s times the common divisor of the magnitudes; where all levels share a factor, the multiple
    whose levels have a norm nearest to s (their expected square is at least s^2) is taken. Where level 1 occurs, as in
    every bucket of many values, that is exact. A bucket that decodes to zeros says nothing about its norm under "l2".

    Args:
        levels: s, the levels above zero, 1 to 1024.
        bucket: Values that share a norm, consecutive within a tensor; None is the whole tensor.
        norm: "l2" as in the analysis, or "max" as in the paper's experiments.

    Differs from the paper: fixed-length coding on the wire, not Elias coding; buckets do not cross tensors.

    >>> QSGD(levels=4, norm="max").on_update({"w": torch.tensor([1.0, -0.5, 0.0])}, torch.Generator())["w"]
    tensor([ 1.0000, -0.5000,  0.0000])
    """

    levels: Annotated[int, Field(ge=1, le=1024)]
    bucket: Annotated[int, Field(ge=1)] | None = None
    norm: Literal["l2", "max"] = "l2"

    def on_update(self, tensors: Tensors, generator: torch.Generator) -> Tensors:
        """The decoded values: unbiased, each a multiple of its bucket's norm / levels."""
        sent = {}
        for name, tensor in tensors.items():
            rows = self._rows(tensor)
            step = _positive(self._norms(rows) / self.levels)
            position = rows.abs() / step
            level = position.floor()
            draw = torch.rand(rows.shape, generator=generator, dtype=rows.dtype).to(rows.device)
            level = (level + (draw < position - level)).clamp_max(self.levels)
            sent[name] = _unrow(rows.sign() * level * step, tensor)
        return sent

    def expect(self, belief: Belief) -> Belief:
        """The same mean, exactly; the variance of the rounding, (norm / s)^2 p (1 - p), is added.

        Exact in mean and variance without incoming variance. With it, the norm is taken at its root mean square
        ("max": its median) and as independent of the values. The norm has no gradient.
        """
        spread, total = variances(belief), {}
        for name, mean in belief.mean.items():
            before = spread[name]
            rows, rows_variance = self._rows(mean), None if before is None else self._rows(before)
            step = _positive(self._expected_norms(rows, rows_variance) / self.levels)
            scaled = None if rows_variance is None else rows_variance / step.square()
            added = _unrow(step.square() * stochastic_rounding_variance(rows / step, scaled), mean)
            total[name] = added if before is None else before + added
        return Belief(belief.mean, total)

    def log_likelihood(self, seen: Tensors, belief: Belief) -> Tensor:
        """Log probability of each level given its bucket's norm; exact up to the floor of `log_stochastic_level`."""
        spread, tolerance = variances(belief), tolerances(seen)
        terms = [self._score(seen[n], belief.mean[n], spread[n], tolerance[n]) for n in seen]
        return torch.stack(terms).sum()

    def encode(self, sent: Tensors, encoding: Encoding) -> Encoding:
        """A sign and a level a value, and 32 bits a bucket for its norm."""
        buckets = sum(ceil(tensor.numel() / (self.bucket or tensor.numel())) for tensor in sent.values())
        bits = 1 + ceil(log2(self.levels + 1))
        overhead = encoding.overhead_bits + 32 * buckets
        return replace(encoding, value_bits=bits, overhead_bits=overhead, block=self.bucket)

    def _score(self, seen: Tensor, mean: Tensor, variance: Tensor | None, tolerance: Tensor) -> Tensor:
        rows = self._rows(seen)
        norms = rows.abs().amax(dim=1, keepdim=True) if self.norm == "max" else _recovered_norms(rows, self.levels)
        step, empty = _positive(norms / self.levels), norms == 0
        every_step, in_empty = (_unrow(t.expand_as(rows), seen) for t in (step, empty))
        score = summed(_log_level, seen, mean, variance, every_step, in_empty)
        if self.norm == "l2" or not empty.any():
            return score
        return score + (log_exact(seen, mean, variance, tolerance) * in_empty).sum()

    def _rows(self, tensor: Tensor) -> Tensor:
        """The values as (buckets, bucket), the last bucket filled up with zeros."""
        flat = tensor.reshape(-1)
        size = min(self.bucket or flat.numel(), flat.numel())
        return pad(flat, (0, -flat.numel() % size)).view(-1, size)

    def _norms(self, rows: Tensor) -> Tensor:
        if self.norm == "max":
            return rows.abs().amax(dim=1, keepdim=True)
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return norms

    def _expected_norms(self, rows: Tensor, variance: Tensor | None) -> Tensor:
        if self.norm == "max":
            return expected_maximum(rows, None if variance is None else variance.detach())
        square = rows.detach().square() if variance is None else rows.detach().square() + variance.detach()
        return square.sum(dim=1, keepdim=True).sqrt()


def _positive(step: Tensor) -> Tensor:
    """The steps, 1 in place of zero: a bucket of zeros stays a bucket of zeros."""
    return torch.where(step > 0, step, torch.ones_like(step))


def _log_level(seen: Tensor, mean: Tensor, variance: Tensor | None, step: Tensor, empty: Tensor) -> Tensor:
    """Log probability of each value's level, 0 in a bucket that decoded to zeros."""
    scaled = None if variance is None else variance / step.square()
    return log_stochastic_level(torch.round(seen / step), mean / step, scaled).masked_fill(empty, 0.0)


def _unrow(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(-1)[: like.numel()].view(like.shape)


def _recovered_norms(rows: Tensor, levels: int) -> Tensor:
    """The L2 norms (buckets, 1) behind decoded values (buckets, bucket); 0 for a bucket of zeros."""
    sizes = rows.abs()
    smallest = sizes.masked_fill(sizes == 0, torch.inf).amin(dim=1, keepdim=True)
    empty = smallest.isinf()
    smallest = smallest.masked_fill(empty, 1.0)
    # The smallest magnitude is some level j: the least j that makes all ratios whole gives the common divisor.
    divisor = torch.ones_like(smallest)
    open_rows = torch.arange(len(rows), device=rows.device)
    for j in range(1, levels + 1):
        ratio = j * sizes[open_rows] / smallest[open_rows]
        whole = ((ratio - ratio.round()).abs() < 1 / (3 * levels)).all(dim=1)
        divisor[open_rows[whole]] = j
        open_rows = open_rows[~whole]
        if not len(open_rows):
            break
    unit = smallest / divisor
    found = (sizes / unit).round()
    factor = (levels / _positive(torch.linalg.vector_norm(found, dim=1, keepdim=True))).round()
    largest = _positive(found.amax(dim=1, keepdim=True))
    factor = factor.minimum((levels / largest).floor()).clamp_min(1)
    return (levels * unit / factor).masked_fill(empty, 0.0)
