"""How well a candidate's update explains the update that was seen: each a function of the belief, smaller is better."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Literal

import torch

from gradiograph.core.defence import Chain
from gradiograph.core.factored import FactoredTensors, factors, inner, squared_distance
from gradiograph.core.tensors import Belief

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.core.attack import Observation
    from gradiograph.core.tensors import Tensors

LikelihoodName = Literal["l2", "cosine", "cosine_per_layer", "channel"]
Misfit = Callable[[Belief], "Tensor"]

TOLERANCE = 0.01
"""How well an update is taken to be known where no channel says so: the share of its root mean square by which a
candidate may be off. It only sets what a prior weighs against a distance."""


def misfit(
    name: LikelihoodName, observation: Observation, *, round: int = 0, names: Collection[str] | None = None
) -> Misfit:
    """The misfit of a candidate's update to the update that was seen in a round.

    Args:
        name: "l2", "cosine", "cosine_per_layer" or "channel". "channel" is the negative log-likelihood of the
            client's defence per value, so that its scale does not grow with the model. An empty chain has no
            likelihood (its output is its input), so that "channel" is "l2" there.
        observation: What the server holds; its defence must be known for "channel".
        round: Its place in `observation.rounds`.
        names: The tensors that are compared; None is all that were seen. Channels such as clipping look at the whole
            update: for them the others stand as they were seen, whatever the candidate, which "channel" then scores by
            a constant.

    Returns:
        Belief -> scalar, differentiable in the belief. What depends on the seen update alone is computed here, once.
    """
    whole = seen_update(observation, round)
    seen = whole if names is None else {key: tensor for key, tensor in whole.items() if key in names}
    if observation.defence is not None and is_density(name, observation):
        defence, count = observation.defence, num_values(seen)
        return lambda belief: -defence.log_likelihood(whole, _filled(belief, whole, seen)) / count
    if name == "cosine":
        return cosine(seen)
    if name == "cosine_per_layer":
        return cosine_per_layer(seen)
    return squared_error(seen)


def is_density(name: LikelihoodName, observation: Observation) -> bool:
    """Whether the misfit is a negative log-likelihood and not a distance of updates."""
    return name == "channel" and observation.defence is not None and observation.defence != Chain()


def one_nat(name: LikelihoodName, observation: Observation, count: int) -> float:
    """By how much a misfit falls where the log-likelihood rises by 1: the unit in which a log-prior is added to it.

    "channel" is a log-likelihood per value. A distance is one only with a noise: as for a deterministic channel it is
    taken as Gaussian, `TOLERANCE` of the update's root mean square. The squared error over the squared norm is then
    2 TOLERANCE^2 / count times the negative log-likelihood, 1 - cosine (at the best scale half of that error) once.

    Args:
        name: See `misfit`.
        observation: What the server holds.
        count: The values that the misfit compares, over all rounds.
    """
    if is_density(name, observation):
        return 1 / count
    return (1 if name in ("cosine", "cosine_per_layer") else 2) * TOLERANCE**2 / count


def num_values(tensors: Tensors) -> int:
    """The number of values in all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())


def seen_update(observation: Observation, round: int = 0) -> Tensors:
    """A round's update: the trainable tensors, in the task's order."""
    tensors = observation.rounds[round][1].tensors
    return {name: tensors[name].detach() for name in observation.task.trainable if name in tensors}


def squared_error(seen: Tensors) -> Misfit:
    """The squared error over the squared norm of the seen update (Zhu et al. 2019, arXiv 1906.08935, equation 4).

    Differs from the paper: the division, a constant. An update after few steps of 1e-4 has squared entries of
    about 1e-12, below the tolerances at which L-BFGS stops.
    """
    squares = {name: inner(seen, seen, name) for name in seen}
    scale = 1 / max(float(torch.stack([*squares.values()]).sum()), torch.finfo(torch.float32).tiny)

    def measure(belief: Belief) -> Tensor:
        errors = [squared_distance(belief.mean, seen, name, squares[name]) for name in seen]
        return torch.stack(errors).sum() * scale

    return measure


def _filled(belief: Belief, whole: Tensors, seen: Tensors) -> Belief:
    """The belief where it is compared, and what was seen in place of the rest."""
    if len(seen) == len(whole):
        return belief
    mean = FactoredTensors({name: factors(belief.mean, name) if name in seen else whole[name] for name in whole})
    variance = belief.variance
    if variance is None:
        return Belief(mean)
    return Belief(mean, {name: variance[name] if name in seen else torch.ones_like(whole[name]) for name in whole})


def cosine(seen: Tensors) -> Misfit:
    """1 - cosine over the whole update, in [0, 2] (Geiping et al. 2020, arXiv 2003.14053, equation 4)."""
    norm = _norm(_dot(seen, seen, seen))

    def measure(belief: Belief) -> Tensor:
        return 1 - _dot(belief.mean, seen, seen) / (_norm(_dot(belief.mean, belief.mean, seen)) * norm)

    return measure


def cosine_per_layer(seen: Tensors) -> Misfit:
    """The mean over layers of 1 - cosine, in [0, 2]; a layer is a module's weight and bias together.

    A layer in which nothing was seen says nothing and is left out.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in seen.items():
        layers.setdefault(name.rpartition(".")[0], {})[name] = tensor
    measures = [cosine(layer) for layer in layers.values() if float(_dot(layer, layer, layer)) > 0] or [cosine(seen)]
    return lambda belief: torch.stack([measure(belief) for measure in measures]).mean()


def _dot(first: Tensors, second: Tensors, names: Iterable[str]) -> Tensor:
    """The inner product over these tensors, without joining them into one vector."""
    return torch.stack([inner(first, second, name) for name in names]).sum()


def _norm(squared: Tensor) -> Tensor:
    # The slope of the square root is infinite at zero; a candidate may have a zero gradient.
    return squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt()
