"""Per-record values to worst, median, mean and interval. Deterministic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradiograph.core.seeds import numpy_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gradiograph.core.records import Row

RESAMPLES = 4000
_TAILS = (0.025, 0.975)
_LEAKAGE = ("identification_top1", "variance_explained", "psnr", "lpips", "ssim", "mse")


class Key(NamedTuple):
    """What one summary is about."""

    task: str
    protocol: str
    defence: str
    attack: str
    control: str
    metric: str


class Film(NamedTuple):
    """One attacked film: its batch and pseudonym."""

    batch: int
    record: str


@dataclass(frozen=True, kw_only=True)
class Values:
    """One value per film, the mean over its seeds, in the films' sorted order.

    Attributes:
        metric: The metric's name.
        films: n films, sorted, so that those of a batch lie together.
        values: (n,).
        seeds: Number of distinct seeds.
        larger_leaks_more: Direction of the metric.
    """

    metric: str
    films: tuple[Film, ...]
    values: NDArray[np.float64] = field(repr=False)
    seeds: int
    larger_leaks_more: bool

    @property
    def is_share(self) -> bool:
        """Whether the metric is 0 or 1 per image, so that its mean is a share."""
        return self.metric.endswith(("_top1", "_top5", "_agreement", "_told"))

    @property
    def num_films(self) -> int:
        """Distinct films; one that is in two batches counts once."""
        return len({film.record for film in self.films})

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Films of each batch, in order."""
        return tuple(np.unique([film.batch for film in self.films], return_counts=True)[1].tolist())


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Worst film first.

    Attributes:
        metric: The metric's name.
        worst: Largest leak of a film (mean over its seeds).
        worst_film: That film.
        median: Over the films.
        interval: The mean over the films with its 95 % interval.
        films: Number of distinct films.
        batches: Number of batches.
        seeds: Number of seeds.
        larger_leaks_more: Direction of the metric.
    """

    metric: str
    worst: float
    worst_film: Film
    median: float
    interval: Interval
    films: int
    batches: int
    seeds: int
    larger_leaks_more: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Attack minus control over the films that both have, with its 95 % interval."""

    interval: Interval
    films: int
    larger_leaks_more: bool

    @property
    def leaks(self) -> bool:
        """Whether the attack does better than its control, with an interval that excludes 0."""
        return self.interval.low > 0 if self.larger_leaks_more else self.interval.high < 0


def collect(rows: Iterable[Row]) -> dict[Key, Values]:
    """Rows by what they are about, averaged over the seeds of each film."""
    found: dict[Key, dict[Film, list[float]]] = {}
    seeds: dict[Key, set[int]] = {}
    larger: dict[Key, bool] = {}
    for row in rows:
        key = Key(row.task, row.protocol, row.defence, row.attack, row.control, row.metric)
        found.setdefault(key, {}).setdefault(Film(row.batch, row.record), []).append(row.value)
        seeds.setdefault(key, set()).add(row.seed)
        larger[key] = row.larger_leaks_more
    return {
        key: Values(
            metric=key.metric,
            films=tuple(sorted(films)),
            values=np.array([np.mean(films[film]) for film in sorted(films)]),
            seeds=len(seeds[key]),
            larger_leaks_more=larger[key],
        )
        for key, films in found.items()
    }


def summary(data: Values) -> Summary:
    """Worst, median, mean and interval of one metric."""
    worst = int(np.argmax(data.values) if data.larger_leaks_more else np.argmin(data.values))
    return Summary(
        metric=data.metric,
        worst=float(data.values[worst]),
        worst_film=data.films[worst],
        median=float(np.median(data.values)),
        interval=_share_interval(data) if data.is_share else _interval(data.values, data.batch_sizes),
        films=data.num_films,
        batches=len(data.batch_sizes),
        seeds=data.seeds,
        larger_leaks_more=data.larger_leaks_more,
    )


def difference(attack: Values, control: Values) -> Difference | None:
    """The paired difference attack - control, film by film, with its interval; None where they share no film."""
    shared = changes(attack, control)
    if shared is None:
        return None
    interval = (
        _share_interval(shared, smallest=-1.0) if shared.is_share else _interval(shared.values, shared.batch_sizes)
    )
    return Difference(interval=interval, films=shared.num_films, larger_leaks_more=attack.larger_leaks_more)


def changes(attack: Values, control: Values) -> Values | None:
    """Attack - control of each film that both have; None where they share no film."""
    other = dict(zip(control.films, control.values, strict=True))
    values = zip(attack.films, attack.values, strict=True)
    pairs = [(film, value - other[film]) for film, value in values if film in other]
    if not pairs:
        return None
    return replace(attack, films=tuple(film for film, _ in pairs), values=np.array([value for _, value in pairs]))


def by_leakage(tables: Mapping[Key, Values], key: Key) -> list[Film]:
    """The films of an attack, the one that leaked most first.

    Identification decides; among films alike in it, the first of the other metrics that was measured.
    """
    measured = sorted({found.metric for found in tables if found._replace(metric="") == key._replace(metric="")})
    order: dict[Film, list[float]] = {}
    for metric in dict.fromkeys((*_LEAKAGE, *measured)):
        data = tables.get(key._replace(metric=metric))
        if data is not None:
            sign = -1.0 if data.larger_leaks_more else 1.0
            for film, value in zip(data.films, data.values, strict=True):
                order.setdefault(film, []).append(sign * float(value))
    return sorted(order, key=lambda film: (order[film], film))


def _interval(values: NDArray[np.float64], batch_sizes: tuple[int, ...]) -> Interval:
    means = _weights(batch_sizes) @ values
    low, high = np.quantile(means, _TAILS)
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def _share_interval(data: Values, smallest: float = 0.0) -> Interval:
    """The bootstrap's interval, or an exact bound where all films are alike and there is nothing to resample.

    None of n means at most 3/n (rule of three); for all of n the exact one-sided bound: at least 0.05 ** (1/n).
    """
    if np.ptp(data.values) > 0:
        return _interval(data.values, data.batch_sizes)
    mean, n = float(data.values[0]), data.num_films
    if mean == 0:
        bound = min(1.0, 3 / n)
        return Interval(mean=0.0, low=max(smallest, -bound), high=bound)
    certain = mean * 0.05 ** (1 / n)
    return Interval(mean=mean, low=certain, high=1.0) if mean > 0 else Interval(mean=mean, low=-1.0, high=certain)


@lru_cache(maxsize=64)
def _weights(batch_sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """(RESAMPLES, n): what each film weighs in each resample of the batches and, within them, of the films.

    A batch that is drawn k times brings k resamples of its films, so that its films' counts are one multinomial draw.
    The same layout of batches always has the same weights: attack and control are resampled alike.
    """
    generator = numpy_stream(0, "bootstrap", *batch_sizes)
    batches = generator.multinomial(len(batch_sizes), np.full(len(batch_sizes), 1 / len(batch_sizes)), size=RESAMPLES)
    counts = np.concatenate(
        [
            generator.multinomial(batches[:, place] * size, np.full(size, 1 / size))
            for place, size in enumerate(batch_sizes)
        ],
        axis=1,
    )
    weights: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return weights
