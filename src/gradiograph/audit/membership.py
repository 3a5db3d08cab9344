"""Membership: does an update tell that a film was among those it was made of?

For a server that has the film, and asks only whether this patient took part. The score is how far the update points
where this film moves the weights, once what public films do to them is projected out: films are alike, and only what is
this film's own tells it from another (after the cosine attack of Li et al. 2023, which takes the gradient whole). It is
judged against films that took no part, so that the rate of false accusations is known (Carlini et al. 2022, arXiv
2112.03570).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradiograph.core.factored import OuterSum, factors
from gradiograph.core.random import stream
from gradiograph.core.scoring import Score
from gradiograph.core.task import copy_buffers, factored_shifts, mean_gradient
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from gradiograph.audit.films import AuditFilms, Selection
    from gradiograph.core.records import Record
    from gradiograph.core.task import Task
    from gradiograph.core.tensors import Tensors, Update

KNOWN = 64
"""Public films whose gradients are what any film does."""
RIDGE = 0.01
"""Share of their mean square that is added before they are projected out (chosen on validation films)."""
ACCUSED_WRONGLY = 0.01
"""Share of the films that took no part which may be taken for members."""
BLOCK = 32

Stack = dict[str, Tensor | tuple[Tensor, Tensor]]
"""Gradients of n films by name: (n, values), or where they are kept as factors (n, 1, U) and (n, 1, D)."""


@dataclass(frozen=True)
class Profile:
    """n films, the weights (n, K) of the known gradients in theirs, and the length (n,) of what is their own."""

    films: Batch
    weights: Tensor
    lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class Asker:
    """The server that asks of films whether they took part in a round that began with this state.

    Attributes:
        task: What was trained.
        state: Before the round.
        known: Public films.
        gradients: Theirs, stacked.
        products: Inner products of these (K, K).
        profiles: Of films that were asked for before, in whatever round.
    """

    task: Task
    state: Tensors
    known: Batch
    gradients: Stack
    products: Tensor
    profiles: dict[tuple[int, ...], Profile] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, state: Tensors, public: Selection, seed: int) -> Asker:
        """With public films from which it learns what any film does."""
        known = _read(task, _some(public, public.records, KNOWN, seed, "known"))
        with torch.no_grad():
            gradients = list(_gradients(task, state, known))
            stack = _stacked(gradients)
            products = torch.stack([_products(one, stack) for one in gradients])
        return cls(task=task, state=state, known=known, gradients=stack, products=products)

    def scores(self, update: Update, *asked: Selection) -> tuple[Tensor, ...]:
        """<direction, g'> / |g'| of each film (n,) of each selection, for what is left of its gradient: g'."""
        sign = 1.0 if update.kind == "gradient" else -1.0
        direction = {name: sign * update.tensors[name] for name in self.task.trainable}
        of_known = slopes(self.task, self.state, direction, self.known)
        found = []
        for profile in map(self._profile, asked):
            along = slopes(self.task, self.state, direction, profile.films)
            found.append((along - profile.weights @ of_known) / profile.lengths)
        return tuple(found)

    def _profile(self, films: Selection) -> Profile:
        asked = (id(films.dataset), *(record.index for record in films.records))
        if asked not in self.profiles:
            self.profiles[asked] = self._measured(_read(self.task, films))
        return self.profiles[asked]

    def _measured(self, films: Batch) -> Profile:
        shared, squares = [], []
        with torch.no_grad():
            for own in _gradients(self.task, self.state, films):
                shared.append(_products(own, self.gradients))
                squares.append(_products(own, _stacked([own])))
        along, own_squares = torch.stack(shared), torch.cat(squares)
        size = RIDGE * self.products.diagonal().mean()
        weights = torch.linalg.solve(self.products + size * torch.eye(len(self.products)).double(), along.T).T
        left = own_squares - 2 * (weights * along).sum(dim=1) + ((weights @ self.products) * weights).sum(dim=1)
        return Profile(films, weights, torch.maximum(left, 1e-12 * own_squares).clamp_min(1e-30).sqrt())


def membership(
    asker: Asker, update: Update, victims: Selection, films: AuditFilms, limit: int, seed: int
) -> tuple[Score, ...]:
    """Whether each victim is told as a member, and how it ranks among films of its class that took no part.

    Args:
        asker: Of the state before the round.
        update: Of the round that the victims took part in; for the control, of one that they did not.
        victims: The films that are asked for.
        films: The audit's: those of its gallery took no part in any round.
        limit: How many of these of each class are asked for, at most.
        seed: Which ones.
    """
    labels = victims.labels.tolist()
    asked = {}
    for label in sorted(set(labels)):
        own = [record for record in films.gallery.records if record.label == label]
        asked[label] = _some(films.gallery, own, limit, seed, "strangers")
    own_scores, *others = asker.scores(update, victims, *asked.values())
    strangers = dict(zip(asked, others, strict=True))
    return standing(own_scores, [strangers[label] for label in labels])


def standing(scores: Tensor, strangers: Sequence[Tensor]) -> tuple[Score, ...]:
    """Where each score (B,) stands among those of films that took no part, (n,) for each.

    A film is told as a member if at most `ACCUSED_WRONGLY` of the strangers score as high, itself counted with them, so
    that the rate holds for few strangers too; with fewer than 99 it can never be told.

    >>> [score.values.tolist() for score in standing(torch.tensor([2.0]), [torch.arange(4.0)])[:2]]
    [[0.0], [0.625]]
    """
    pairs = list(zip(scores, strangers, strict=True))
    counts = torch.tensor([len(some) for some in strangers])
    above = torch.tensor([int((some > score).sum()) for score, some in pairs])
    ties = torch.tensor([int((some == score).sum()) for score, some in pairs])
    told = (above + ties + 1) / (counts + 1) <= ACCUSED_WRONGLY
    return (
        Score("member_told", "", True, told.double()),
        Score("member_rank", "", True, 1 - (above + 0.5 * ties) / counts),
        Score("member_strangers", "", True, counts.double()),
    )


def slopes(task: Task, state: Tensors, direction: Tensors, films: Batch) -> Tensor:
    """How fast each film's loss rises along the direction (n,), float64: <direction, gradient>.

    The gradient of a weighted sum of the films' losses is linear in the weights, so its product with the direction,
    differentiated by them, gives all films at once. Where the films of a pass mix, as in BatchNorm's train mode, each
    has a pass of its own.
    """
    size = 1 if task.loss_mixes or _mixes(task, state, films) else BLOCK
    weights = {name: state[name].detach().requires_grad_() for name in direction}
    found = []
    for place in range(0, len(films), size):
        part = films.part(slice(place, place + size))
        outputs = task.forward({**state, **copy_buffers(task, state), **weights}, part.images)
        losses = task.loss(outputs, part.targets)
        shares = torch.ones(len(losses), requires_grad=True)
        gradients = torch.autograd.grad((shares * losses).sum(), list(weights.values()), create_graph=True)
        along = torch.stack([(g * direction[n]).sum() for n, g in zip(weights, gradients, strict=True)]).sum()
        found.append(torch.autograd.grad(along, shares)[0])
    return torch.cat(found).double()


def _mixes(task: Task, state: Tensors, films: Batch) -> bool:
    """Whether what the model says of a film depends on the others of its pass."""
    if len(films) == 1 or task.mode == "eval":
        return False

    def outputs(part: Batch) -> Tensor:
        return task.forward({**state, **copy_buffers(task, state)}, part.images).detach()

    alone = torch.cat([outputs(films.part(slice(place, place + 1))) for place in range(2)])
    return not torch.allclose(outputs(films.part(slice(2))), alone, rtol=1e-3, atol=1e-5)


def _some(films: Selection, records: Sequence[Record], limit: int, seed: int, role: str) -> Selection:
    """Of these records, `limit` at most."""
    order = torch.randperm(len(records), generator=stream(seed, "membership", role))[:limit]
    return type(films)(dataset=films.dataset, records=tuple(records[place] for place in sorted(order.tolist())))


def _read(task: Task, films: Selection) -> Batch:
    return Batch(torch.from_numpy(films.read()), films.targets(task))


def _gradients(task: Task, state: Tensors, films: Batch) -> Iterator[Tensors]:
    """The gradient of each film's loss by itself; of dense weights as factors."""
    shifts = factored_shifts(task, state, films.part(slice(1)), 1)
    for place in range(len(films)):
        start = {**state, **copy_buffers(task, state)}
        yield mean_gradient(task, start, films.part(slice(place, place + 1)), shifts=shifts)


def _stacked(gradients: Sequence[Tensors]) -> Stack:
    """The gradients of n films side by side."""
    stack: Stack = {}
    for name in gradients[0]:
        parts = [factors(one, name) for one in gradients]
        sums = [part for part in parts if isinstance(part, OuterSum)]
        if sums:
            stack[name] = torch.stack([part.left for part in sums]), torch.stack([part.right for part in sums])
        else:
            stack[name] = torch.stack([part.detach().reshape(-1) for part in parts if not isinstance(part, OuterSum)])
    return stack


def _products(one: Tensors, stack: Stack) -> Tensor:
    """Inner products (n,) of a film's gradient with stacked ones over all trained parameters, float64."""
    total = torch.zeros((), dtype=torch.float64)
    for name, known in stack.items():
        own = factors(one, name)
        if isinstance(own, OuterSum) and not isinstance(known, Tensor):
            left, right = known
            found = ((left @ own.left.T) * (right @ own.right.T)).sum(dim=(1, 2))
        elif isinstance(own, Tensor) and isinstance(known, Tensor):
            found = known @ own.detach().reshape(-1)
        else:
            msg = f"The gradient of '{name}' is kept as factors of some films and not of others."
            raise TypeError(msg)
        total = total + found.double()
    return total
