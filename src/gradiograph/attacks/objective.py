"""What a search minimises: the mean misfit over the rounds that were seen, plus what is believed about images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from gradiograph.attacks import replay as replays
from gradiograph.attacks.likelihoods import LikelihoodName, Misfit, is_density, misfit, num_values, one_nat, seen_update
from gradiograph.attacks.priors import total_variation
from gradiograph.core.errors import BadSetting, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from gradiograph.attacks.replay import Replay
    from gradiograph.core.attack import Observation
    from gradiograph.core.tensors import Batch


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The misfit of each round, the ways to replay it, and the prior.

    Attributes:
        misfits: One a round.
        exact: The protocol's replay of each round.
        fast: What stands in for it: the midpoint, or the exact replay itself.
        prior: (latent, images) -> scalar, in units of the misfit.
        names: The tensors that are compared.
        is_distance: Whether the misfit is one of updates; a likelihood has other units.
        nat: By how much the misfit falls where the log-likelihood rises by 1: see `likelihoods.one_nat`.
    """

    misfits: tuple[Misfit, ...]
    exact: tuple[Replay, ...]
    fast: tuple[Replay, ...]
    prior: Callable[[Tensor, Tensor], Tensor | float]
    names: tuple[str, ...]
    is_distance: bool
    nat: float

    def value(self, place: int, replay: Replay, latent: Tensor, batch: Batch) -> Tensor:
        """The share of the round at this place in the objective; the prior is counted with the first round."""
        share = self.misfits[place](replay(batch)) / len(self.misfits)
        return share if place else share + self.prior(latent, batch.images)

    def agrees(self, used: Sequence[Replay], batch: Batch, found: float) -> bool:
        """Whether the replays in use are close enough to the exact ones, at this value of the objective."""
        # Only a distance of updates can be held against their disagreement.
        misfit = found if self.is_distance else 0.0
        pairs = zip(used, self.exact, strict=True)
        return all(replays.agrees(fast, exact, batch, misfit, self.names) for fast, exact in pairs)


def objective(
    observation: Observation,
    *,
    likelihood: LikelihoodName,
    replay: replays.ReplayName,
    tv: float,
    normal: float,
    names: tuple[str, ...],
) -> Objective:
    """The objective of a search.

    Args:
        observation: What the server holds.
        likelihood: See `likelihoods.misfit`.
        replay: See `GradientMatching`; a gradient has no midpoint, nor have gradients that are clipped one by one.
        tv: Weight of the total variation.
        normal: Weight of 0.5 |latent|^2, a standard normal's negative log density: 1 counts it as the likelihood is
            (`likelihoods.one_nat`).
        names: The tensors that are compared.
    """
    places = range(len(observation.rounds))
    count = sum(num_values({name: seen_update(observation, place)[name] for name in names}) for place in places)
    exact = tuple(replays.exact(observation, place) for place in places)
    fast = exact
    on_examples = observation.defence is not None and observation.defence.example_stage is not None
    if replay != "exact" and observation.rounds[0][1].kind == "delta" and not on_examples:
        part = part_of(observation, names)
        fast = tuple(replays.midpoint(part, place) for place in places)
    nat = one_nat(likelihood, observation, count)
    return Objective(
        misfits=tuple(misfit(likelihood, observation, round=place, names=names) for place in places),
        exact=exact,
        fast=fast,
        prior=partial(_prior, tv, normal * nat),
        names=names,
        is_distance=not is_density(likelihood, observation),
        nat=nat,
    )


def _prior(tv: float, normal: float, latent: Tensor, images: Tensor) -> Tensor | float:
    value: Tensor | float = tv * total_variation(images) if tv else 0.0
    return value + 0.5 * normal * latent.square().sum() if normal else value


def matching_names(names: Sequence[str], patterns: Iterable[str], attack: str) -> tuple[str, ...]:
    """The names that any of the glob patterns matches, in their order; all where there is no pattern.

    Raises:
        BadSetting: a pattern matches none.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            msg = f"Attack '{attack}': layers = '{pattern}' matches no trained parameter. {nearest(pattern, names)}"
            raise BadSetting(msg)
    return tuple(name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns))


def part_of(observation: Observation, names: Collection[str]) -> Observation:
    """The observation of a server to which only these tensors of each update came."""
    rounds = tuple(
        (state, replace(update, tensors={name: update.tensors[name] for name in update.tensors if name in names}))
        for state, update in observation.rounds
    )
    return replace(observation, rounds=rounds)
