"""What a defence promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradiograph.core.defence import Chain, Defence, Encoding
from gradiograph.core.random import stream
from gradiograph.core.tensors import Belief
from gradiograph.testing.contract import (
    assert_frozen,
    assert_like,
    assert_same,
    clone,
    global_randomness_untouched,
    run_checks,
)
from gradiograph.testing.specimens import update_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


def check_defence(build: Callable[[], Defence]) -> None:
    """Check both sides of a channel: how it acts, and what an attacker who knows it can compute.

    Args:
        build: Makes the defence, with settings under which an update does not pass unchanged nor vanish.

    Raises:
        ContractBroken: a promise is broken.
    """
    defence = build()
    run_checks(defence, _CHECKS, type(defence).__name__)


def _is_frozen(defence: Defence) -> None:
    """It is a `Defence` and a frozen dataclass."""
    assert isinstance(defence, Defence), f"{type(defence).__name__} is no Defence"
    assert_frozen(defence)


def _keeps_layout(defence: Defence) -> None:
    """What is sent has the update's names, shapes, dtypes and devices, and is finite."""
    clean = update_tensors()
    assert_like(clean, defence.on_update(clean, stream(0, "defence")), "on_update")


def _takes_zeros(defence: Defence) -> None:
    """An update of zeros (a dead gradient) gives a finite result."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in update_tensors().items()}
    assert_like(zeros, defence.on_update(zeros, stream(0, "defence")), "on_update of zeros")
    assert_like(zeros, defence.expect(Belief(zeros)).mean, "expect of zeros")


def _keeps_input(defence: Defence) -> None:
    """The input is not changed, neither its values nor through the result."""
    clean = update_tensors()
    before = clone(clean)
    sent = defence.on_update(clean, stream(0, "defence"))
    for tensor in sent.values():
        tensor.add_(1.0)
    assert_same(before, clean, "the update that went in")


def _is_deterministic(defence: Defence) -> None:
    """The same generator gives the same result, and no other randomness is used."""
    clean = update_tensors()
    with global_randomness_untouched():
        first = defence.on_update(clean, stream(3, "defence"))
        second = defence.on_update(clean, stream(3, "defence"))
    assert_same(first, second, "two runs")


def _sends_no_graph(defence: Defence) -> None:
    """What is sent carries no autograd graph: through it the server could reach the client's tensors."""
    sent = defence.on_update(update_tensors(), stream(0, "defence"))
    attached = [name for name, tensor in sent.items() if tensor.requires_grad]
    assert not attached, f"requires_grad is set on {attached}"


def _expects(defence: Defence) -> None:
    """`expect` maps a belief, with and without a variance, to a belief of the same layout; variances are >= 0."""
    mean = update_tensors()
    for variance in (None, _variance(mean)):
        belief = defence.expect(Belief(mean, variance))
        assert_like(mean, belief.mean, "mean")
        if belief.variance is not None:
            assert_like(mean, belief.variance, "variance")
            negative = [name for name, tensor in belief.variance.items() if bool((tensor < 0).any())]
            assert not negative, f"negative variance of {negative}"


def _expect_is_differentiable(defence: Defence) -> None:
    """`expect` is differentiable in the mean, and its gradient is finite."""
    mean = {name: tensor.requires_grad_() for name, tensor in update_tensors().items()}
    pushed = defence.expect(Belief(mean)).mean
    _assert_gradient(sum((tensor.square().sum() for tensor in pushed.values()), torch.zeros(())), mean)


def _scores(defence: Defence) -> None:
    """`log_likelihood` is a finite scalar, with and without a variance, at the truth and elsewhere."""
    clean, other = update_tensors(), update_tensors("other")
    seen = defence.on_update(clean, stream(0, "defence"))
    for mean in (clean, other):
        for variance in (None, _variance(mean)):
            score = defence.log_likelihood(seen, Belief(mean, variance))
            assert score.shape == (), f"shape {tuple(score.shape)}, expected a scalar"
            assert bool(torch.isfinite(score)), f"{score.item()} is not finite"


def _likelihood_has_gradient(defence: Defence) -> None:
    """`log_likelihood` has a finite gradient that is not zero away from the truth."""
    seen = defence.on_update(update_tensors(), stream(0, "defence"))
    mean = {name: tensor.requires_grad_() for name, tensor in update_tensors("other").items()}
    gradient = _assert_gradient(defence.log_likelihood(seen, Belief(mean)), mean)
    assert any(bool(tensor.any()) for tensor in gradient.values()), "the gradient is zero: an attack could not move"


def _prefers_truth(defence: Defence) -> None:
    """Over ten draws, what was sent is on average more likely under the truth than under another update."""
    clean, other = update_tensors(), update_tensors("other")
    gain = 0.0
    for draw in range(10):
        seen = defence.on_update(clean, stream(draw, "defence"))
        gain += float(defence.log_likelihood(seen, Belief(clean)) - defence.log_likelihood(seen, Belief(other)))
    assert gain > 0, f"mean log ratio {gain / 10:.3g}"


def _encodes(defence: Defence) -> None:
    """`encode` gives whole, non-negative numbers and at least one byte."""
    sent = defence.on_update(update_tensors(), stream(0, "defence"))
    encoding = defence.encode(sent, Encoding(num_values=sum(tensor.numel() for tensor in sent.values())))
    numbers = (encoding.num_values, encoding.value_bits, encoding.index_bits, encoding.overhead_bits)
    assert all(isinstance(number, int) and number >= 0 for number in numbers), f"{encoding}"
    assert encoding.num_bytes > 0, f"{encoding}"


def _stacks(defence: Defence) -> None:
    """It stacks: a chain of it and itself acts and has a finite likelihood with a finite gradient."""
    chain = Chain(stages=(defence, defence))
    seen = chain.on_update(update_tensors(), stream(0, "defence"))
    assert_like(update_tensors(), seen, "on_update of the chain")
    mean = {name: tensor.requires_grad_() for name, tensor in update_tensors("other").items()}
    score = chain.log_likelihood(seen, Belief(mean))
    assert bool(torch.isfinite(score)), f"log-likelihood {score.item()}"
    _assert_gradient(score, mean)


def _variance(mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, 1e-4) for name, tensor in mean.items()}


def _assert_gradient(scalar: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    assert scalar.requires_grad, "no gradient flows to the belief's mean"
    gradients = torch.autograd.grad(scalar, list(inputs.values()), allow_unused=True, materialize_grads=True)
    gradient = dict(zip(inputs, gradients, strict=True))
    infinite = [name for name, tensor in gradient.items() if not bool(torch.isfinite(tensor).all())]
    assert not infinite, f"the gradient of {infinite} is not finite"
    return gradient


_CHECKS = (
    _is_frozen,
    _keeps_layout,
    _takes_zeros,
    _keeps_input,
    _is_deterministic,
    _sends_no_graph,
    _expects,
    _expect_is_differentiable,
    _scores,
    _likelihood_has_gradient,
    _prefers_truth,
    _encodes,
    _stacks,
)
