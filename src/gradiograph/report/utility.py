"""What a protection costs the model: every training's predictions as tables, with intervals by patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from gradiograph.report.results import UNDEFENDED, Results, Setting, named
from gradiograph.report.wording import seconds, size
from gradiograph.utility import Estimate, Measure, estimate, estimate_loss, measures_beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradiograph.core.predictions import Judged
    from gradiograph.log import ModelCell

FEDERATED, POOLED = "federated", "pooled"
FOREIGN: Literal["foreign"] = "foreign"
"""In place of a site's number: the site that trained with nobody."""
Place = int | Literal["foreign"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """One arm of the trainings over its seeds.

    Attributes:
        setting: Task and protocol.
        defence: Its label.
        arm: "federated", "pooled" or "site 0".
        predictions: Of the test films, by seed, where the training came to its end.
        foreign: Of the films of a foreign site, by seed; empty where there is none.
        failed: Why it did not, by seed.
        bytes_up: What all clients together sent in a round, the mean over rounds and seeds.
        seconds: Of a round, the same.
    """

    setting: Setting
    defence: str
    arm: str
    predictions: Mapping[int, Judged] = field(repr=False)
    failed: Mapping[int, str]
    bytes_up: float
    seconds: float
    foreign: Mapping[int, Judged] = field(repr=False, default_factory=dict)

    def value(self, measure: Measure, site: Place = None) -> Estimate:
        """A measure over the seeds, of all test films, of one site's, or of the foreign site's."""
        return _value(self, measure, site)

    def loss(self, reference: Model, measure: Measure) -> Estimate:
        """How much worse than a reference, over the seeds that both have; positive is worse."""
        return _loss(self, reference, measure)


@lru_cache(maxsize=1024)
def _value(model: Model, measure: Measure, site: Place) -> Estimate:
    if not model.predictions:
        return Estimate(value=None, undefined="the training failed")
    if site == FOREIGN:
        return estimate(list(model.foreign.values()), measure)
    return estimate([p if site is None else p.at(site) for p in model.predictions.values()], measure)


@lru_cache(maxsize=1024)
def _loss(model: Model, reference: Model, measure: Measure) -> Estimate:
    if model.failed:
        return Estimate(value=None, undefined="the training failed")
    shared = [seed for seed in model.predictions if seed in reference.predictions]
    if not shared:
        return Estimate(value=None, undefined="nothing to compare with")
    plain, own = ([trained.predictions[seed] for seed in shared] for trained in (reference, model))
    return estimate_loss(plain, own, measure)


@dataclass(frozen=True, kw_only=True)
class UtilityLine:
    """One arm in text: a value for each measure, then what it lost, its sites, and what a round takes."""

    name: str
    values: tuple[str, ...]
    loss: str
    sites: str
    sent: str
    seconds: str
    failed: str = ""
    foreign: str = ""


@dataclass(frozen=True, kw_only=True)
class UtilityTable:
    """All arms of one task and protocol: the protections first, then what they are compared with."""

    setting: Setting
    titles: tuple[str, ...]
    score: str
    lines: tuple[UtilityLine, ...]


def models(results: Results) -> tuple[Model, ...]:
    """Every arm of a run that trains, in the log's order; none where it does not."""
    if results.trainings is None:
        return ()
    arms: dict[tuple[Setting, str, str], list[ModelCell]] = {}
    for cell in results.trainings.cells():
        arms.setdefault((Setting(cell.task, cell.protocol), cell.defence, cell.arm), []).append(cell)
    return tuple(_model(results, *place, cells) for place, cells in arms.items())


def baseline(found: Sequence[Model], setting: Setting) -> Model | None:
    """The federation without protection."""
    plain = (m for m in found if (m.setting, m.defence, m.arm) == (setting, UNDEFENDED, FEDERATED))
    return next(plain, None)


def score(results: Results) -> Measure:
    """The measure that the audit judges utility by."""
    name = results.header["utility"]["score"]
    return measures_beside(name)[name]


def utility_tables(results: Results, found: Sequence[Model]) -> list[UtilityTable]:
    """A table for each task and protocol that was trained."""
    order = {label: place for place, label in enumerate([UNDEFENDED, *results.entries("defences")])}

    def place(model: Model) -> tuple[bool, int, str]:
        return (model.arm != FEDERATED, order.get(model.defence, len(order)), model.arm)

    tables = []
    for setting in dict.fromkeys(model.setting for model in found):
        own = sorted((model for model in found if model.setting == setting), key=place)
        reference = baseline(found, setting)
        tables.append(
            UtilityTable(
                setting=setting,
                titles=tuple(measure.title for measure in measures_beside(score(results).name).values()),
                score=score(results).title,
                lines=tuple(_line(results, model, reference) for model in own),
            )
        )
    return tables


def told(found: Estimate, *, sign: bool = False) -> str:
    """An estimate in words.

    >>> told(Estimate(value=0.9912, low=0.98, high=1.0)), told(Estimate(value=None, undefined="no films"))
    ('0.991 (0.980 to 1.000)', 'undefined: no films')
    """
    if found.value is None:
        return f"undefined: {found.undefined}"
    form = "+.3f" if sign else ".3f"
    value = format(found.value, form)
    return value if found.low is None else f"{value} ({found.low:{form}} to {found.high:{form}})"


def _model(results: Results, setting: Setting, defence: str, arm: str, cells: Sequence[ModelCell]) -> Model:
    rounds = [record for cell in cells for record in cell.history]
    assert results.trainings is not None  # noqa: S101 - `models` looked
    return Model(
        setting=setting,
        defence=defence,
        arm=arm,
        predictions={cell.seed: results.trainings.predictions(cell.id) for cell in cells if not cell.failed},
        foreign={cell.seed: p for cell in cells if (p := results.trainings.foreign(cell.id)) is not None},
        failed={cell.seed: cell.failed for cell in cells if cell.failed},
        bytes_up=fmean(record.bytes_up for record in rounds) if rounds else 0.0,
        seconds=fmean(record.seconds for record in rounds) if rounds else 0.0,
    )


def _line(results: Results, model: Model, reference: Model | None) -> UtilityLine:
    measure, count = score(results), int(results.header["utility"]["sites"])
    by_site = [model.value(measure, site) for site in range(count)]
    compared = reference is not None and model is not reference
    return UtilityLine(
        name=name_of(model),
        values=tuple(told(model.value(entry)) for entry in measures_beside(measure.name).values()),
        loss=told(model.loss(reference, measure), sign=True) if compared and reference else "",
        sites=", ".join("undefined" if found.value is None else f"{found.value:.3f}" for found in by_site),
        # A model that is trained in one place sends nothing.
        sent=size(model.bytes_up) if model.arm == FEDERATED else "",
        seconds=seconds(model.seconds),
        foreign=told(model.value(measure, FOREIGN)) if results.header["utility"].get("foreign") else "",
        failed=" ".join(f"Seed {seed}: {reason}" for seed, reason in model.failed.items()),
    )


def name_of(model: Model) -> str:
    """An arm in words."""
    if model.arm == FEDERATED:
        return named(model.defence, start=True)
    return "All films at one site" if model.arm == POOLED else f"{model.arm.capitalize()} alone"
